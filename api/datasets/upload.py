"""One upload from the network to a stored data set: received, hashed, inspected, and only then stored."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from pathlib import PurePath
from typing import Any

from anyio import to_thread
from fastapi import Request
from pydantic import ValidationError

from api.datasets import files
from api.datasets.early_inspection import STREAMED, EarlyInspection
from api.datasets.multipart import UploadForm, boundary_of
from api.problems import Problem, all_invalid, invalid
from api.spec_errors import readable_errors
from api.state import ApiState
from store.access import Identity
from store.artifacts import Incoming
from store.models import Dataset
from trainer.spec import failpoints
from trainer.spec.dataset import DataFormat, Inspection, detect_format, inspect
from trainer.spec.job import Columns

HEAD_BYTES = 64 * 1024
MAX_NAME = 200
STALLED_SECONDS = 60.0

OPENAPI_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": "JSONL, CSV or Parquet, told apart by the file's first bytes and its name.",
                        },
                        "name": {"type": "string", "description": "Without it, the file's name."},
                        "columns": {
                            "type": "string",
                            "contentMediaType": "application/json",
                            "description": "Which columns hold the prompt and the answer, where they are not found by "
                            "their names. A job on this data set says the same in `data.columns`.",
                        },
                    },
                },
                "example": {
                    "file": '{"question": "12+34=", "answer": "46"}\n',
                    "name": "sums",
                    "columns": '{"prompt": "question", "answer": "answer"}',
                },
            }
        },
    }
}


Choose = Callable[[UploadForm, bytes], Columns]


def as_found(_form: UploadForm, _head: bytes) -> Columns:
    """The columns are known by their names."""
    return Columns()


async def receive(request: Request, state: ApiState, identity: Identity, choose: Choose = as_found) -> Dataset:
    """The stored data set. Problem when it is refused; then, or when the client goes away, nothing is kept.

    choose: the file's columns where the request names none, from the form's other parts and the file's beginning.
    """
    boundary = boundary_of(request.headers.get("content-type"))
    with state.artifacts.incoming() as incoming:
        early: EarlyInspection | None = None

        async def write(data: bytes) -> None:
            nonlocal early
            failpoints.hit("api.upload")
            first = incoming.bytes == 0
            await to_thread.run_sync(incoming.write, data)
            await to_thread.run_sync(incoming.flush)
            if first:
                early = _begin(state, form, incoming, data[:HEAD_BYTES], choose)
            if early is not None:
                early.grown(incoming.bytes)

        form = UploadForm(write, state.settings.max_upload_bytes)
        try:
            await form.read(_unless_stalled(request.stream()), boundary)
            if form.filename is None:
                raise invalid(["body", "file"], "is missing")
            columns = _columns(form.text("columns")) or choose(form, await to_thread.run_sync(_head, incoming))
            if early is not None and early.columns == columns:
                format, inspection = early.format, await early.result()
            else:
                format, inspection = await to_thread.run_sync(
                    _inspected, _filename(form), incoming, columns, limiter=state.inspections
                )
        finally:
            if early is not None:
                await early.give_up()
        return await to_thread.run_sync(_accept, state, identity, form, incoming, format, columns, inspection)


async def _unless_stalled(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Problem 408 for a client that sends nothing for too long: it would hold a file and a place for ever."""
    while True:
        try:
            async with asyncio.timeout(STALLED_SECONDS):
                chunk = await anext(chunks, None)
        except TimeoutError:
            raise Problem(408, "upload-stalled", f"no byte of the upload came for {STALLED_SECONDS:g} s") from None
        if chunk is None:
            return
        yield chunk


def _begin(
    state: ApiState, form: UploadForm, incoming: Incoming, head: bytes, choose: Choose
) -> EarlyInspection | None:
    """None where the whole file has to be there first, or too many are being read already."""
    if not state.early_inspections.available_tokens:
        return None
    try:
        format = detect_format(_filename(form), head)
        columns = _columns(form.text("columns")) or choose(form, head)
    except (ValueError, Problem):
        return None  # said at the end: a client that is still sending reads no answer
    if format not in STREAMED:
        return None
    return EarlyInspection(incoming.path, format, columns, state.early_inspections)


def _inspected(filename: str, incoming: Incoming, columns: Columns) -> tuple[DataFormat, Inspection]:
    try:
        format = detect_format(filename, _head(incoming))
    except ValueError as error:
        raise invalid(["body", "file"], str(error)) from error
    return format, inspect(incoming.path, format, columns)


def _head(incoming: Incoming) -> bytes:
    with incoming.path.open("rb") as file:
        return file.read(HEAD_BYTES)


def _accept(
    state: ApiState,
    identity: Identity,
    form: UploadForm,
    incoming: Incoming,
    format: DataFormat,
    columns: Columns,
    inspection: Inspection,
) -> Dataset:
    filename = _filename(form)
    name = form.text("name") or filename
    if len(name) > MAX_NAME:
        raise invalid(["body", "name"], f"has more than {MAX_NAME} characters")
    if not inspection.ok:
        raise _rejected(filename, inspection)
    return files.store(
        state,
        identity,
        incoming,
        name=name,
        filename=filename,
        format=format,
        columns=[column for role in ("prompt", "answer") for column in inspection.sources[role]],
        rows=inspection.rows,
        unanswered_rows=inspection.unanswered_count,
        column_mapping=columns.model_dump(exclude_none=True),
        statistics=inspection.statistics,
    )


def _filename(form: UploadForm) -> str:
    return PurePath(form.filename or "").name[-MAX_NAME:] or "upload"


def _columns(text: str | None) -> Columns | None:
    if not text:
        return None
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise invalid(["body", "columns"], f"not valid JSON: {error}") from error
    try:
        return Columns.model_validate(given)
    except ValidationError as error:
        at_columns = [{**each, "loc": ("columns", *each["loc"])} for each in error.errors()]
        raise all_invalid(readable_errors(at_columns, {"columns": given})) from error


def _rejected(filename: str, inspection: Inspection) -> Problem:
    count = inspection.error_count
    return Problem(
        422,
        "dataset-rejected",
        f"{count} error{'s' * (count != 1)} in {filename}; nothing was stored",
        errors=[asdict(error) for error in inspection.errors],
        error_count=count,
    )
