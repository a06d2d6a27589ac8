"""From a data set's problems to the token ids that the engine and the trainer see.

A model with a chat template gets the rendered chat, up to and including the opening of the assistant's turn. A base
model gets the last user text as plain text. Nothing is ever cut: a prompt that cannot be used is dropped, and the
rows are kept by reason for the run's report.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.errors import RunError
from trainer.spec.dataset import Message, Problem, apply_template, last_user_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

UNANSWERED = "unanswered"
TOO_LONG = "too_long"
EMPTY = "empty"
SPECIAL_ONLY = "special_only"


@dataclass(frozen=True)
class Prompt:
    token_ids: tuple[int, ...]
    text: str
    """What people are shown: the last user text with the template around it, without the chat's control tokens."""
    answer: str
    kind: str | None
    """The verifier of this row where it is not the job's."""
    row: int
    question: str = ""
    """What the verifier is told that was asked: the row's last user text, without the template."""
    options: Mapping[str, object] | None = None
    """The row's own options of its verifier."""
    metadata: Mapping[str, object] | None = None


@dataclass(frozen=True)
class PromptSet:
    prompts: list[Prompt]
    dropped: dict[str, list[int]]
    """Reason -> rows: `too_long` (over max_prompt_tokens), `empty` (no token at all), `special_only` (a user text
    that consists of special tokens), and `unanswered` where the data set's reader passed rows over."""

    @property
    def dropped_count(self) -> int:
        return sum(len(rows) for rows in self.dropped.values())

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, index: int) -> Prompt:
        return self.prompts[index]


def build_prompts(
    problems: Iterable[Problem],
    tokenizer: "PreTrainedTokenizerBase",
    *,
    max_prompt_tokens: int,
    system_prompt: str | None = None,
    prompt_template: str | None = None,
    chat_template_kwargs: Mapping[str, bool | int | str] | None = None,
) -> PromptSet:
    """Tokenise every problem, in order.

    `system_prompt` takes the place of a system message that a row brings; `chat_template_kwargs` go to the model's
    chat template. RunError when the model cannot be given what the spec asks for: either of them without a chat
    template, or a chat that the template refuses.
    """
    is_chat = bool(tokenizer.chat_template)
    if system_prompt is not None and not is_chat:
        raise RunError(
            "no_chat_template",
            "data.system_prompt is set, but the model has no chat template to put it in: remove it, or write it into "
            "data.prompt_template",
        )
    if chat_template_kwargs and not is_chat:
        raise RunError(
            "no_chat_template", "data.chat_template_kwargs is set, but the model has no chat template: remove it"
        )
    special_ids = frozenset(tokenizer.all_special_ids)
    prompts: list[Prompt] = []
    dropped: dict[str, list[int]] = {}
    for problem in problems:
        question = last_user_text(problem.prompt)
        text = apply_template(prompt_template, question)
        own_ids = _token_ids(tokenizer, text, add_special_tokens=False)
        if is_chat:
            chat = chat_messages(problem.prompt, text, system_prompt)
            token_ids = chat_ids(tokenizer, chat, f"row {problem.row}", chat_template_kwargs or {})
        else:
            token_ids = plain_ids(tokenizer, text)
        if not own_ids:
            dropped.setdefault(EMPTY, []).append(problem.row)
        elif special_ids.issuperset(own_ids):
            dropped.setdefault(SPECIAL_ONLY, []).append(problem.row)
        elif len(token_ids) > max_prompt_tokens:
            dropped.setdefault(TOO_LONG, []).append(problem.row)
        else:
            prompts.append(
                Prompt(
                    token_ids=tuple(token_ids),
                    text=text,
                    answer=problem.answer,
                    kind=problem.kind,
                    row=problem.row,
                    question=question,
                    options=problem.options,
                    metadata=problem.metadata,
                )
            )
    return PromptSet(prompts, dropped)


def chat_messages(prompt: str | list[Message], text: str, system_prompt: str | None) -> list[dict[str, str]]:
    """The chat with `text` as its last user message."""
    messages = [Message("user", text)] if isinstance(prompt, str) else [*prompt[:-1], Message("user", text)]
    if system_prompt is not None:
        rest = [message for message in messages if message.role not in ("system", "developer")]
        messages = [Message("system", system_prompt), *rest]
    return [{"role": message.role, "content": message.content} for message in messages]


def chat_ids(
    tokenizer: "PreTrainedTokenizerBase",
    chat: list[dict[str, str]],
    place: str,
    template_kwargs: Mapping[str, bool | int | str],
) -> list[int]:
    """A chat by the model's template, up to and including the opening of the assistant's turn.

    RunError, which begins with `place`, when the template refuses it."""
    # Comes with transformers' chat templates; base models do without it.
    from jinja2 import TemplateError

    try:
        options: dict[str, Any] = {**template_kwargs, "tokenize": False, "add_generation_prompt": True}
        rendered = tokenizer.apply_chat_template(chat, **options)
    except TemplateError as error:
        roles = ", ".join(message["role"] for message in chat)
        raise RunError(
            "chat_template_refused", f"{place}: the model's chat template refuses a chat of {roles}: {error}"
        ) from error
    # The template writes the BOS itself where the model wants one; adding special tokens would double it.
    return _token_ids(tokenizer, str(rendered), add_special_tokens=False)


def plain_ids(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """A text to go on with, with what the model wants at the beginning of a text and nothing at its end."""
    token_ids = _token_ids(tokenizer, text, add_special_tokens=True)
    # Some tokenizers end every text with an EOS, and nothing sensible follows one.
    while token_ids and token_ids[-1] == tokenizer.eos_token_id and not text.endswith(str(tokenizer.eos_token)):
        token_ids.pop()
    bos = tokenizer.bos_token_id
    if bos is not None and token_ids[:2] == [bos, bos]:
        token_ids.pop(0)  # the text brought a BOS of its own
    return token_ids


def _token_ids(tokenizer: "PreTrainedTokenizerBase", text: str, *, add_special_tokens: bool) -> list[int]:
    # verbose: a prompt beyond the model's context is no news here, it is dropped and counted.
    return list(tokenizer(text, add_special_tokens=add_special_tokens, verbose=False)["input_ids"])
