"""Reading a multipart body in whatever pieces the network delivers it."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.datasets.multipart import UploadForm, boundary_of
from api.problems import Problem

FILE = b"line one\r\n--not the boundary\r\n--" + bytes(range(256)) + b"\r\n"


def body(*parts):
    return b"".join(b"--BB\r\n" + head + b"\r\n\r\n" + content + b"\r\n" for head, content in parts) + b"--BB--\r\n"


def file_part(content, filename=b"a.jsonl"):
    return b'Content-Disposition: form-data; name="file"; filename="' + filename + b'"', content


def text_part(name, content):
    return b'Content-Disposition: form-data; name="' + name + b'"', content


def read(data, sizes=(65536,), max_file_bytes=10_000):
    """The form and the file's bytes, of a body that arrives in pieces of these sizes, the last of them repeated."""
    received = bytearray()

    async def write(chunk):
        received.extend(chunk)

    async def chunks():
        start = 0
        pieces = iter(sizes)
        size = 1
        while start < len(data):
            size = next(pieces, size)
            yield data[start : start + size]
            start += size

    form = UploadForm(write, max_file_bytes)
    asyncio.run(form.read(chunks(), b"BB"))
    return form, bytes(received)


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_the_pieces_do_not_matter(sizes):
    data = body(text_part(b"name", "Übung".encode()), file_part(FILE), text_part(b"columns", b"{}"))
    form, received = read(data, sizes)
    assert received == FILE
    assert form.filename == "a.jsonl"
    assert (form.text("name"), form.text("columns"), form.text("other")) == ("Übung", "{}", None)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"no multipart at all", 422),
        (body(file_part(FILE))[:-10], 422),
        (body(file_part(FILE), file_part(FILE)), 422),
        (body(text_part(b"name", b"a"), text_part(b"name", b"b")), 422),
        (body((b"Content-Type: text/plain", b"nameless")), 422),
        (body(*(text_part(str(n).encode(), b"") for n in range(17))), 422),
        (body(file_part(b"x" * 10_001)), 413),
        (body(text_part(b"name", b"x" * 65_537)), 413),
    ],
)
def test_a_body_that_is_not_acceptable_is_a_problem(data, status):
    with pytest.raises(Problem) as caught:
        read(data)
    assert caught.value.status == status


def test_text_that_cannot_be_stored_is_refused():
    form, _ = read(body(text_part(b"name", b"\xff"), text_part(b"columns", b"a\0b")))
    for field in ("name", "columns"):
        with pytest.raises(Problem) as caught:
            form.text(field)
        assert caught.value.errors[0]["loc"] == ["body", field]


def test_the_boundary_is_taken_from_the_content_type():
    assert boundary_of('multipart/form-data; boundary="a b"') == b"a b"
    for other in (None, "application/json", "multipart/form-data", "multipart/mixed; boundary=x"):
        with pytest.raises(Problem) as caught:
            boundary_of(other)
        assert caught.value.status == 415
