"""A sample's tokens as text while they come. No part of a stop string is ever given out, nor half a character."""

from collections.abc import Sequence

from tokenizers.decoders import DecodeStream
from transformers import PreTrainedTokenizerBase

from trainer.spec.events import SampledToken


class StopSearch:
    """Passes text on up to the first stop string. What may yet become one is kept back until it is decided."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._kept = ""
        self.found = False

    def push(self, text: str) -> str:
        """What can be given out now."""
        self._kept += text
        places = [place for stop in self._stops if (place := self._kept.find(stop)) >= 0]
        if places:
            self.found = True
            return self._take(min(places))
        return self._take(len(self._kept) - self._undecided())

    def flush(self) -> str:
        """The rest, since nothing more comes."""
        return self._take(len(self._kept))

    def _take(self, count: int) -> str:
        given, self._kept = self._kept[:count], self._kept[count:]
        return given

    def _undecided(self) -> int:
        """How long the longest end of the text is that a stop string begins with."""
        longest = max(map(len, self._stops), default=1) - 1
        for length in range(min(longest, len(self._kept)), 0, -1):
            if any(stop.startswith(self._kept[-length:]) for stop in self._stops):
                return length
        return 0


class SampleText:
    """The text of one sample, and which of its tokens have been given out with it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)
        self._search = StopSearch(stops)
        self._token_ids: list[int] = []
        self._decoded = 0
        """Characters that the tokens so far have come to."""
        self._given: list[str] = []
        self._length = 0
        self._held: list[tuple[int, SampledToken]] = []
        """Tokens whose text has not been given out whole, and where each begins."""

    @property
    def stopped(self) -> bool:
        """A stop string was found: nothing more is given out."""
        return self._search.found

    @property
    def whole(self) -> str:
        """All that was given out."""
        return "".join(self._given)

    def push(self, token_id: int) -> tuple[str, str]:
        """(what can be given out now, the token's own text)."""
        self._token_ids.append(token_id)
        own = self._stream.step(self._tokenizer.backend_tokenizer, token_id) or ""
        self._decoded += len(own)
        return self._give(self._search.push(own)), own

    def hold(self, token: SampledToken) -> None:
        """Remember the token that was pushed last, to be given out with its text."""
        self._held.append((self._decoded - len(token.text), token))

    def finish(self) -> str:
        """The rest: what was kept back, and bytes that never became a character, as replacement characters."""
        if self.stopped:
            return ""
        decoded = str(self._tokenizer.decode(self._token_ids, skip_special_tokens=True))
        rest = self._search.push(decoded[self._decoded :])
        return self._give(rest if self.stopped else rest + self._search.flush())

    def tokens(self, *, all_of_them: bool) -> list[SampledToken]:
        """Those whose text has been given out since; with the last text also those that have none.

        A token in which a stop string begins belongs to the text before it; one behind it to nothing."""
        taken = []
        while self._held:
            start, token = self._held[0]
            is_out = start + len(token.text) <= self._length
            if not (is_out or (all_of_them and (start < self._length or not token.text))):
                break
            taken.append(self._held.pop(0)[1])
        return taken

    def _give(self, text: str) -> str:
        if text:
            self._given.append(text)
            self._length += len(text)
        return text
