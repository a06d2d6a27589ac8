"""Lines of a byte stream, never more than one of them in memory, and of that no more than a limit."""

from collections.abc import Iterator
from typing import BinaryIO

_BOM = b"\xef\xbb\xbf"
_CHUNK = 2**16


def bounded_lines(stream: BinaryIO, max_bytes: int) -> Iterator[bytes | None]:
    """Each line with its line break; None in the place of one that is longer than `max_bytes`. A UTF-8 byte order
    mark at the very beginning is left out."""
    line = stream.readline(max_bytes + len(_BOM) + 2)
    line = line.removeprefix(_BOM)
    while line:
        if len(line.rstrip(b"\r\n")) > max_bytes:
            while line and not line.endswith(b"\n"):
                line = stream.readline(_CHUNK)
            yield None
        else:
            yield line
        line = stream.readline(max_bytes + 2)


def decode(line: bytes) -> str:
    """The line as text. ValueError that says where it is not UTF-8."""
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: byte {error.start + 1} of the line is 0x{line[error.start]:02x}") from None
