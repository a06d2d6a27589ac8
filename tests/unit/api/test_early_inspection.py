"""An upload that is read while it arrives."""

import asyncio
import io
from concurrent.futures import ThreadPoolExecutor

import pytest
from anyio import CapacityLimiter

from api.datasets import upload
from api.datasets.early_inspection import ArrivingFile, EarlyInspection
from api.problems import Problem
from trainer.spec.job import Columns

LINE = b'{"prompt": "1+1=", "answer": "2"}\n'


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "arriving"
    path.touch()
    return path


def test_reading_waits_for_what_is_to_come_and_ends_with_the_file(path):
    with ArrivingFile(path) as file, ThreadPoolExecutor(1) as reader:
        stream = io.BufferedReader(file)
        line = reader.submit(stream.readline)
        for piece in (b"half a ", b"line\nand the be"):
            assert not line.done()
            with path.open("ab") as out:
                out.write(piece)
            file.grown(path.stat().st_size)
        assert line.result(20) == b"half a line\n"
        rest = reader.submit(stream.read)
        file.end()
        assert rest.result(20) == b"and the be"
        assert stream.read() == b""


def test_bytes_beyond_what_was_announced_are_not_read(path):
    path.write_bytes(b"0123456789")
    with ArrivingFile(path) as file:
        file.grown(4)
        assert file.read(100) == b"0123"
        file.end()
        assert file.read(100) == b""


def test_giving_up_ends_the_reading(path):
    with ArrivingFile(path) as file, ThreadPoolExecutor(1) as reader:
        reading = reader.submit(file.read, 10)
        file.give_up()
        with pytest.raises(OSError, match="broke off"):
            reading.result(20)


def test_an_inspection_says_what_reading_the_whole_file_says(path):
    async def inspected():
        early = EarlyInspection(path, "jsonl", Columns(), CapacityLimiter(1))
        with path.open("ab") as out:
            for piece in (LINE * 3 + LINE[:9], LINE[9:] + b"{}\n", b""):
                out.write(piece)
                out.flush()
                early.grown(path.stat().st_size)
                await asyncio.sleep(0)
        result = await early.result()
        await early.give_up()
        return result

    found = asyncio.run(inspected())
    assert (found.rows, found.error_count, found.errors[0].line) == (4, 2, 5)


def test_an_upload_that_breaks_off_leaves_no_thread_behind(path):
    async def broken_off():
        limiter = CapacityLimiter(1)
        early = EarlyInspection(path, "csv", Columns(), limiter)
        await early.give_up()
        return limiter.borrowed_tokens

    assert asyncio.run(broken_off()) == 0


def test_a_client_that_sends_nothing_is_let_go(monkeypatch):
    monkeypatch.setattr(upload, "STALLED_SECONDS", 0.01)

    async def chunks():
        yield b"first"
        await asyncio.Event().wait()

    async def read():
        return [chunk async for chunk in upload._unless_stalled(chunks())]

    with pytest.raises(Problem) as stalled:
        asyncio.run(read())
    assert stalled.value.status == 408
