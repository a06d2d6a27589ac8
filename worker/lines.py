"""Lines out of a pipe with a bound on memory, whatever the process on the other end writes."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

_CHUNK = 1 << 16


class Readable(Protocol):
    def read(self, size: int, /) -> bytes | None: ...
    def close(self) -> None: ...


class Line(NamedTuple):
    content: bytes
    """Without its newline; of a line longer than the limit, its beginning."""
    length: int
    """Bytes the whole line had."""

    @property
    def cut(self) -> bool:
        return self.length > len(self.content)


def read_lines(stream: Readable, limit: int) -> Iterator[Line]:
    """The lines of an unbuffered stream as they arrive, until its end; none holds more than `limit` bytes."""
    kept = bytearray()
    length = 0
    while chunk := stream.read(_CHUNK):
        *complete, rest = chunk.split(b"\n")
        for piece in complete:
            kept += piece[: limit - len(kept)]
            yield Line(bytes(kept), length + len(piece))
            kept.clear()
            length = 0
        kept += rest[: limit - len(kept)]
        length += len(rest)
    if length:
        yield Line(bytes(kept), length)


def readable(line: Line) -> str:
    """A log line as text: of a progress bar its last state, cuts marked."""
    text = line.content.decode("utf-8", errors="replace").rstrip("\r").rsplit("\r", 1)[-1]
    return f"{text} … ({line.length - len(line.content)} bytes cut)" if line.cut else text
