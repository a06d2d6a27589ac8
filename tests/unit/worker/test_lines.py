import io

from worker.lines import Line, read_lines, readable


def test_lines_come_whole_whatever_the_chunks():
    class Dribble(io.RawIOBase):
        def __init__(self, content: bytes):
            self._parts = [content[i : i + 3] for i in range(0, len(content), 3)]

        def read(self, size=-1):
            return self._parts.pop(0) if self._parts else b""

    content = b"one\n\ntwo words\nthe last has no newline"
    lines = list(read_lines(Dribble(content), limit=100))
    assert [line.content for line in lines] == content.split(b"\n")
    assert not any(line.cut for line in lines)


def test_a_long_line_is_cut_and_the_next_one_is_not_harmed():
    lines = list(read_lines(io.BytesIO(b"x" * 1_000_000 + b"\nnext\n"), limit=10))
    assert lines == [Line(b"x" * 10, 1_000_000), Line(b"next", 4)]
    assert lines[0].cut


def test_memory_is_bounded_by_the_limit_not_by_the_line():
    class Endless(io.RawIOBase):
        """256 MiB without a newline, made on the fly."""

        chunks = 4096

        def read(self, size=-1):
            self.chunks -= 1
            return b"\xff" * 65536 if self.chunks >= 0 else b""

    import tracemalloc

    tracemalloc.start()
    try:
        (line,) = read_lines(Endless(), limit=1 << 20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert line.length == 4096 * 65536
    assert peak < 8 << 20


def test_a_log_line_is_text_whatever_the_bytes():
    assert readable(Line("grün ".encode() + b"\xff", 7)) == "grün \ufffd"
    assert readable(Line(b"10%\r50%\r100%\r", 13)) == "100%"
    assert readable(Line(b"begin", 12)) == "begin … (7 bytes cut)"
