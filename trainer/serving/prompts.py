"""From a request to the samples that are to be drawn for it; or what is wrong with it, in terms of its fields."""

from collections.abc import Sequence

from trainer.errors import RunError
from trainer.models import Policy
from trainer.prompts import chat_ids, plain_ids
from trainer.serving.drawing import Sample
from trainer.spec.dataset import Message, last_user_text
from trainer.spec.sampling import DEFAULT_MAX_TOKENS, ChatMessage, SamplingRequest


class RequestError(Exception):
    """A request that this model cannot answer."""

    def __init__(self, code: str, field: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.field = field


def samples_of(policy: Policy, positions: int, request_id: str, request: SamplingRequest) -> list[Sample]:
    """In the order of their indices. positions: how many tokens a sample may come to. RequestError."""
    field = "prompt" if request.messages is None else "messages"
    samples: list[Sample] = []
    for number, prompt in enumerate(_prompts(policy, request)):
        if not prompt:
            raise RequestError("empty_prompt", field, "it comes to no token at all")
        if not 0 <= min(prompt) <= max(prompt) < policy.vocab_size:
            raise RequestError("unknown_token", field, f"a token id is not below {policy.vocab_size}")
        left = positions - len(prompt)
        wanted = min(DEFAULT_MAX_TOKENS, left) if request.max_tokens is None else request.max_tokens
        if wanted < 1 or wanted > left:
            raise RequestError(
                "context_length_exceeded",
                field,
                f"the model has {positions} positions: {len(prompt)} tokens of the prompt and {max(wanted, 1)} of the "
                "answer are more",
            )
        samples += [
            Sample(
                request=request_id,
                index=number * request.n + sample,
                place=(number, sample),
                prompt=tuple(prompt),
                max_tokens=wanted,
                temperature=request.temperature,
                top_p=request.top_p,
                seed=request.seed,
                logprobs=request.logprobs,
            )
            for sample in range(request.n)
        ]
    return samples


def _prompts(policy: Policy, request: SamplingRequest) -> list[list[int]]:
    if request.messages is not None:
        return [_of_chat(policy, request.messages)]
    return [_of_text(policy, each, "prompt") if isinstance(each, str) else each for each in request.prompts or ()]


def _of_chat(policy: Policy, messages: Sequence[ChatMessage]) -> list[int]:
    if not policy.has_chat_template:
        # As in training: a base model goes on with the last user text.
        text = last_user_text([Message(each.role, each.content) for each in messages])
        return _of_text(policy, text, "messages")
    chat = [{"role": each.role, "content": each.content} for each in messages]
    try:
        return chat_ids(policy.tokenizer, chat, "messages", {})
    except RunError as error:
        raise RequestError(error.code, "messages", error.message) from error


def _of_text(policy: Policy, text: str, field: str) -> list[int]:
    try:
        return plain_ids(policy.tokenizer, text)
    except Exception as error:
        raise RequestError("unreadable", field, f"the model's tokenizer cannot read it: {error}") from error
