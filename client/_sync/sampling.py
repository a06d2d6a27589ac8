# Generated from client/_async/sampling.py by `./dev sdk`; edit it there.
"""Sampling from a model that some worker holds loaded (docs/serving.md)."""

from collections.abc import Mapping, Sequence
from typing import Any

from client._sync.calls import Calls

SAMPLING_SECONDS = 900.0
"""A model may have to be loaded first; the server has a limit of its own (ASYM_SAMPLER_REQUEST_SECONDS)."""


class Sampling(Calls):
    """Part of `Asym`."""

    def chat(self, model: str, messages: Sequence[Mapping[str, str]], **options: Any) -> dict[str, Any]:  # noqa: ANN401
        """Sample the next turn of a chat from `job/JOB_ID@STEP` or any model that a job may name: OpenAI's
        `chat.completion`. Options: those of OpenAI's request (n, max_tokens, temperature, top_p, stop, seed, ...), and
        verify={"kind": ..., "answer": ...}, after which each choice has {"asym": {"reward": ..., "error": ...}}."""
        return self._sample("/v1/chat/completions", {"model": model, "messages": list(messages)}, options)

    def complete(self, model: str, prompt: str | Sequence[str], **options: Any) -> dict[str, Any]:  # noqa: ANN401
        """Sample how a text goes on: OpenAI's `text_completion`. Options as of `chat`."""
        return self._sample("/v1/completions", {"model": model, "prompt": prompt}, options)

    def _sample(self, path: str, body: dict[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
        given = {name: value for name, value in options.items() if value is not None}
        if (verify := given.pop("verify", None)) is not None:
            given["asym"] = {"verify": verify}
        result: dict[str, Any] = self._transport.json("POST", path, body=body | given, patience=SAMPLING_SECONDS)
        return result
