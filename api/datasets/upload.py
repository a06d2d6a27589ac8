"""One upload from the network to a stored data set: received, hashed, inspected, and only then stored."""

import json
from dataclasses import asdict
from pathlib import PurePath
from typing import Any

from anyio import to_thread
from fastapi import Request
from pydantic import ValidationError

from api.datasets import files
from api.datasets.multipart import UploadForm, boundary_of
from api.problems import Problem, all_invalid, invalid
from api.spec_errors import readable_errors
from api.state import ApiState
from store.access import Identity
from store.artifacts import Incoming
from store.models import Dataset
from trainer.spec import failpoints
from trainer.spec.dataset import Inspection, detect_format, inspect
from trainer.spec.job import Columns

HEAD_BYTES = 64 * 1024
MAX_NAME = 200

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


async def receive(request: Request, state: ApiState, identity: Identity) -> Dataset:
    """The stored data set. Problem when it is refused; then, or when the client goes away, nothing is kept."""
    boundary = boundary_of(request.headers.get("content-type"))
    with state.artifacts.incoming() as incoming:

        async def write(data: bytes) -> None:
            failpoints.hit("api.upload")
            await to_thread.run_sync(incoming.write, data)

        form = UploadForm(write, state.settings.max_upload_bytes)
        await form.read(request.stream(), boundary)
        return await to_thread.run_sync(_accept, state, identity, form, incoming, limiter=state.inspections)


def _accept(state: ApiState, identity: Identity, form: UploadForm, incoming: Incoming) -> Dataset:
    if form.filename is None:
        raise invalid(["body", "file"], "is missing")
    incoming.flush()
    filename = PurePath(form.filename).name[-MAX_NAME:] or "upload"
    name = form.text("name") or filename
    if len(name) > MAX_NAME:
        raise invalid(["body", "name"], f"has more than {MAX_NAME} characters")
    columns = _columns(form.text("columns"))
    with incoming.path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    try:
        format = detect_format(filename, head)
    except ValueError as error:
        raise invalid(["body", "file"], str(error)) from error
    inspection = inspect(incoming.path, format, columns)
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
    )


def _columns(text: str | None) -> Columns:
    if not text:
        return Columns()
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
