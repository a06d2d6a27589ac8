"""/v1/files: data sets as OpenAI's files. An id is the data set's own: either interface shows what the other made."""

import json
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from api.auth import Caller, Member
from api.datasets import files
from api.datasets.multipart import UploadForm
from api.datasets.upload import receive
from api.openai.errors import responses
from api.openai.shapes import After, Limit, ObjectList, object_list, seconds
from api.openapi import example
from api.problems import Problem, invalid
from api.state import State
from store import datasets
from store.models import Dataset
from trainer.spec.dataset.recognition import STATED_ANSWERS, WORKED_ANSWERS
from trainer.spec.events import STORAGE_FULL
from trainer.spec.job import Columns

PURPOSE = "fine-tune"
PROMPTS = "messages"

router = APIRouter(prefix="/v1/files", tags=["OpenAI"], responses=responses())

_FILE_EXAMPLE = {
    "id": "ds_01jz8x6v5p3q2r1s0t9w8y7zab",
    "object": "file",
    "bytes": 4166206,
    "created_at": 1768469400,
    "expires_at": None,
    "filename": "train.jsonl",
    "purpose": PURPOSE,
    "status": "processed",
    "status_details": None,
}

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": "JSONL: `messages`, and the fields that the grader's template names.",
                        },
                        "purpose": {"type": "string", "enum": [PURPOSE]},
                        "columns": {
                            "type": "string",
                            "contentMediaType": "application/json",
                            "description": "Beyond OpenAI's shape: which columns hold the prompt and the answer.",
                        },
                    },
                },
                "example": {
                    "file": '{"messages": [{"role": "user", "content": "12+34="}], "answer": "46"}\n',
                    "purpose": PURPOSE,
                },
            }
        },
    }
}


class FileObject(BaseModel):
    """An uploaded file."""

    model_config = example(_FILE_EXAMPLE)

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: None = None
    filename: str
    purpose: Literal["fine-tune"] = "fine-tune"
    status: Literal["processed"] = "processed"
    """It was read to its end before this answer: a bad line refuses the whole file."""
    status_details: None = None

    @classmethod
    def of(cls, dataset: Dataset) -> Self:
        return cls(
            id=dataset.id, bytes=dataset.bytes, created_at=seconds(dataset.created_at), filename=dataset.filename
        )


class FileDeleted(BaseModel):
    model_config = example({"id": _FILE_EXAMPLE["id"], "object": "file", "deleted": True})

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


@router.post("", response_model=FileObject, openapi_extra=_BODY, responses=responses(403, 413, 415, 422))
async def openai_create_file(request: Request, state: State, member: Member) -> FileObject | Response:
    """Upload a file for reinforcement fine-tuning. It is checked to its end first; 422 lists every bad line."""
    try:
        return FileObject.of(await receive(request, state, member, _columns))
    except ClientDisconnect:
        return Response(status_code=400)  # nobody is there to read it
    except OSError as error:
        if error.errno not in STORAGE_FULL:
            raise
        raise Problem(507, "storage-full", "the platform's storage takes no more; nothing was stored") from error


@router.get("")
def openai_list_files(
    state: State,
    caller: Caller,
    limit: Limit = 100,
    after: After = None,
    purpose: Annotated[str | None, Query(max_length=64)] = None,
    order: Annotated[Literal["desc"], Query(description="Newest first is the only order.")] = "desc",
) -> ObjectList[FileObject]:
    """The team's files, newest first: every data set."""
    rows: list[Dataset] = []
    if purpose in (None, PURPOSE):
        with state.database.transaction() as session:
            rows = datasets.list_page(session, caller, limit + 1, after)
    return object_list(rows, limit, FileObject.of, lambda file: file.id)


@router.get("/{file_id}", responses=responses(404))
def openai_get_file(file_id: str, state: State, caller: Caller) -> FileObject:
    """One file."""
    with state.database.transaction() as session:
        return FileObject.of(datasets.get(session, caller, file_id))


@router.get(
    "/{file_id}/content",
    response_class=Response,
    responses={
        200: {
            "description": "The file as it was uploaded.",
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}, "example": "…"}},
        },
        **responses(404),
    },
)
def openai_get_file_content(file_id: str, state: State, caller: Caller) -> Response:
    """The bytes of a file."""
    with state.database.transaction() as session:
        dataset = datasets.get(session, caller, file_id)
    path = state.artifacts.dataset_path(dataset.sha256, dataset.format)
    return FileResponse(path, media_type="application/octet-stream", filename=dataset.filename)


@router.delete("/{file_id}", responses=responses(403, 404, 409))
def openai_delete_file(file_id: str, state: State, member: Member) -> FileDeleted:
    """Take a file out of use; 409 while a job that has not ended reads it."""
    files.delete(state, member, file_id)
    return FileDeleted(id=file_id)


def _columns(form: UploadForm, head: bytes) -> Columns:
    """Of a file with `messages`: these, and the field that a grader is most likely to name.

    Which field the grader does name is known only with the job, which then reads the file anew with that one.
    """
    purpose = form.text("purpose")
    if purpose != PURPOSE:
        raise invalid(["body", "purpose"], "is missing" if purpose is None else f"must be {PURPOSE}")
    try:
        row = json.loads(head.partition(b"\n")[0])
    except (ValueError, RecursionError):  # the inspection tells of it
        return Columns()
    if not isinstance(row, dict) or PROMPTS not in row:
        return Columns()
    known = any(name.split(".")[0] in row for name in (*STATED_ANSWERS, *WORKED_ANSWERS))
    fields = [name for name, value in row.items() if name != PROMPTS and isinstance(value, str | int | float)]
    return Columns(prompt=PROMPTS, answer=None if known or not fields else fields[0])
