"""A sampler's answer in OpenAI's shapes: bit by bit, or put together."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from trainer.spec.events import Delta, SampledToken


class Form(Protocol):
    """How a chat, or a text, is written."""

    prefix: str
    """Of the answer's id."""
    object: str
    chunk_object: str

    def logprobs(self, tokens: Sequence[SampledToken], begins: int) -> dict[str, Any]: ...

    def chunk(self, text: str, *, first: bool) -> dict[str, Any]:
        """What of a streamed choice holds the text."""
        ...

    def whole(self, text: str) -> dict[str, Any]: ...


class ChatForm:
    prefix, object, chunk_object = "chatcmpl-", "chat.completion", "chat.completion.chunk"

    def logprobs(self, tokens: Sequence[SampledToken], begins: int) -> dict[str, Any]:
        def told(text: str, logprob: float) -> dict[str, Any]:
            return {"token": text, "logprob": logprob, "bytes": list(text.encode())}

        content = [
            {
                **told(token.text, token.logprob),
                "top_logprobs": [told(each.text, each.logprob) for each in token.likely],
            }
            for token in tokens
        ]
        return {"content": content, "refusal": None}

    def chunk(self, text: str, *, first: bool) -> dict[str, Any]:
        role = {"role": "assistant", "content": ""} if first else {}
        return {"delta": {**role, "content": text} if text else role}

    def whole(self, text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text, "refusal": None}}


class TextForm:
    prefix, object, chunk_object = "cmpl-", "text_completion", "text_completion"

    def logprobs(self, tokens: Sequence[SampledToken], begins: int) -> dict[str, Any]:
        offsets = []
        for token in tokens:
            offsets.append(begins)
            begins += len(token.text)
        return {
            "tokens": [token.text for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [{each.text: each.logprob for each in token.likely} for token in tokens],
            "text_offset": offsets,
        }

    def chunk(self, text: str, *, first: bool) -> dict[str, Any]:
        return {"text": text}

    def whole(self, text: str) -> dict[str, Any]:
        return {"text": text}


class Told:
    """One answer as it grows."""

    def __init__(self, form: Form, sampling_id: str, created: int, model: str) -> None:
        self._form = form
        self._head = {"id": form.prefix + sampling_id, "created": created, "model": model, "system_fingerprint": None}
        self._texts: dict[int, str] = {}
        self._tokens: dict[int, list[SampledToken] | None] = {}
        self._lengths: dict[int, int] = {}
        """Characters of the tokens that were told of."""
        self._ends: dict[int, str] = {}
        self._verdicts: dict[int, dict[str, Any]] = {}

    def chunks(self, deltas: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """What follows from a part of the answer, for a stream."""
        for delta in map(Delta.model_validate, deltas):
            first = delta.index not in self._texts
            begins = self._lengths.get(delta.index, 0)
            self._take(delta)
            choice = {
                "index": delta.index,
                **self._form.chunk(delta.text, first=first),
                "logprobs": None if delta.tokens is None else self._form.logprobs(delta.tokens, begins),
                "finish_reason": delta.finish,
            }
            if delta.judged is not None:
                choice["asym"] = delta.judged.model_dump()
            yield {**self._head, "object": self._form.chunk_object, "choices": [choice]}

    def last_chunk(self, usage: dict[str, Any]) -> dict[str, Any]:
        return {**self._head, "object": self._form.chunk_object, "choices": [], "usage": _usage(usage)}

    def add(self, deltas: Sequence[dict[str, Any]]) -> None:
        for delta in deltas:
            self._take(Delta.model_validate(delta))

    def whole(self, usage: dict[str, Any]) -> dict[str, Any]:
        choices = []
        for index, text in sorted(self._texts.items()):
            tokens = self._tokens[index]
            choice = {
                "index": index,
                **self._form.whole(text),
                "logprobs": None if tokens is None else self._form.logprobs(tokens, 0),
                "finish_reason": self._ends[index],
            }
            if index in self._verdicts:
                choice["asym"] = self._verdicts[index]
            choices.append(choice)
        return {**self._head, "object": self._form.object, "choices": choices, "usage": _usage(usage)}

    def _take(self, delta: Delta) -> None:
        index = delta.index
        self._texts[index] = self._texts.get(index, "") + delta.text
        tokens = self._tokens.setdefault(index, None)
        if delta.tokens is not None:
            self._tokens[index] = [*(tokens or ()), *delta.tokens]
            self._lengths[index] = self._lengths.get(index, 0) + sum(len(token.text) for token in delta.tokens)
        if delta.finish is not None:
            self._ends[index] = delta.finish
        if delta.judged is not None:
            self._verdicts[index] = delta.judged.model_dump()


def _usage(usage: dict[str, Any]) -> dict[str, Any]:
    return {**usage, "total_tokens": usage["prompt_tokens"] + usage["completion_tokens"]}
