"""Response tokens as text, and where in the text each of them is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers.decoders import DecodeStream
from torch import Tensor
from transformers import PreTrainedTokenizerBase


class Decoder:
    """Response token ids to the text that is verified and shown: special tokens are left out."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer

    def __call__(self, token_ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=True))

    def ends(self, token_ids: Sequence[int], text: str) -> list[int]:
        """Where each token ends in `text`, their own text: rising to its length, one entry per token.

        A token that has no text of its own, or only a part of a character, ends where the one before it does.
        """
        stream = DecodeStream(skip_special_tokens=True)
        ends: list[int] = []
        reached = 0
        for token_id in token_ids:
            reached += len(stream.step(self._tokenizer.backend_tokenizer, token_id) or "")
            ends.append(min(reached, len(text)))
        # Bytes that never became a character are shown as a replacement character, which the stream keeps back.
        return [*ends[:-1], len(text)] if ends else []


@dataclass(frozen=True)
class TokenEntropies:
    """The entropy of every response token of a step, nats, [T] packed, and how to find the tokens in the text."""

    entropy: Tensor
    starts: list[int]
    """Where each rollout begins in `entropy`."""
    decode: Decoder

    def fields(self, rollout: int, token_ids: Sequence[int], text: str) -> dict[str, Any]:
        """What `spec.events.Rollout` says of the tokens of one rollout, which are read as `text`."""
        start = self.starts[rollout]
        own = self.entropy[start : start + len(token_ids)].tolist()
        # A ten-thousandth of a nat is no visible shade.
        return {
            "token_entropies": [round(value, 4) for value in own],
            "token_ends": self.decode.ends(token_ids, text),
        }
