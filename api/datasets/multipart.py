"""Reads a multipart/form-data body as it arrives: the file part goes straight to its place, the others are short text.

FastAPI's own form parser would write the whole upload to a temporary file of its own first.
"""

from collections.abc import AsyncIterator, Awaitable, Callable

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from api.problems import Problem, invalid

FILE_FIELD = "file"
MAX_TEXT_BYTES = 64 * 1024
MAX_TEXT_PARTS = 16
WRITE_BYTES = 2**20
"""File data is handed on in pieces of about this size, so that a thread is not asked for every network packet."""


def boundary_of(content_type: str | None) -> bytes:
    """The boundary of a multipart/form-data content type; 415 when it is another type or has none."""
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise Problem(415, "unsupported-media-type", "send the data set as multipart/form-data with a part `file`")
    return boundary


class UploadForm:
    """The parts of one upload. `read` fills it; the file's bytes go to `write_file`."""

    def __init__(self, write_file: Callable[[bytes], Awaitable[None]], max_file_bytes: int) -> None:
        self._write_file = write_file
        self._max_file_bytes = max_file_bytes
        self._file_bytes = 0
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._header_name = b""
        self._header_value = b""
        self._disposition = b""
        self._field: str | None = None
        self._is_file = False
        self._text: dict[str, bytearray] = {}
        self._ended = False
        self.filename: str | None = None
        """The file's name as the client gave it; None when no file was sent."""

    async def read(self, chunks: AsyncIterator[bytes], boundary: bytes) -> None:
        """Read to the end. Problem 413 or 422 for a body that is not acceptable."""
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_end": self._on_end,
            },
        )
        try:
            async for chunk in chunks:
                parser.write(chunk)
                if self._pending_bytes >= WRITE_BYTES:
                    await self._hand_on()
            parser.finalize()
        except FormParserError as error:
            raise invalid(["body"], f"not valid multipart/form-data: {error}") from error
        if not self._ended:
            raise invalid(["body"], "the multipart body ends before its last boundary")
        await self._hand_on()

    def text(self, field: str) -> str | None:
        """A text part; None when it was not sent."""
        value = self._text.get(field)
        if value is None:
            return None
        try:
            text = value.decode()
        except UnicodeDecodeError as error:
            raise invalid(["body", field], "not UTF-8 text") from error
        if "\0" in text:
            raise invalid(["body", field], "holds the character U+0000")
        return text

    async def _hand_on(self) -> None:
        if self._pending:
            data, self._pending, self._pending_bytes = b"".join(self._pending), [], 0
            await self._write_file(data)

    def _on_part_begin(self) -> None:
        self._disposition = b""
        self._field = None
        self._is_file = False

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise invalid(["body"], "a part has no name in its Content-Disposition header")
        self._field = options[b"name"].decode(errors="replace")
        if self._field == FILE_FIELD:
            if self.filename is not None:
                raise invalid(["body", FILE_FIELD], "sent more than once; upload one file at a time")
            self._is_file = True
            self.filename = options.get(b"filename", b"").decode(errors="replace")
        elif self._field in self._text or len(self._text) >= MAX_TEXT_PARTS:
            raise invalid(["body", self._field], "sent more than once, or too many parts")
        else:
            self._text[self._field] = bytearray()

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._file_bytes += end - start
            if self._file_bytes > self._max_file_bytes:
                raise Problem(413, "too-large", f"a data set may have at most {self._max_file_bytes} bytes")
            self._pending.append(data[start:end])
            self._pending_bytes += end - start
        elif self._field is not None:
            text = self._text[self._field]
            text += data[start:end]
            if len(text) > MAX_TEXT_BYTES:
                raise Problem(413, "too-large", f"the part {self._field!r} may have at most {MAX_TEXT_BYTES} bytes")

    def _on_end(self) -> None:
        self._ended = True
