"""/datasets: upload, look, delete."""

from itertools import islice
from typing import Annotated, Any, cast

from fastapi import APIRouter, Query, Request, Response
from starlette.requests import ClientDisconnect

from api import conditional
from api.auth import Caller, Member
from api.datasets import files, tokens
from api.datasets.schemas import REJECTED_EXAMPLE, DatasetOut, RowOut, TokensOut
from api.datasets.upload import OPENAPI_BODY, receive
from api.openapi import problem_content, problems
from api.paging import After, AfterNumber, Limit, Page, page
from api.problems import Problem, invalid
from api.state import State
from store import datasets
from trainer.spec.dataset import DataError, DataFormat, read_problems
from trainer.spec.events import STORAGE_FULL
from trainer.spec.job import Columns

Column = Annotated[str | None, Query(max_length=1000)]

router = APIRouter(prefix="/datasets", tags=["data sets"], responses=problems())

_REJECTED: dict[str, Any] = {
    "description": "The file was refused; every bad line is reported.",
    "content": problem_content(REJECTED_EXAMPLE),
}


@router.post(
    "",
    status_code=201,
    response_model=DatasetOut,
    openapi_extra=OPENAPI_BODY,
    responses={**problems(403, 413, 415), "422": _REJECTED},
)
async def upload_dataset(request: Request, response: Response, state: State, member: Member) -> DatasetOut | Response:
    """Upload a file of problems. It is read to its end before anything is stored, and every bad line is reported."""
    try:
        dataset = await receive(request, state, member)
    except ClientDisconnect:
        return Response(status_code=400)  # nobody is there to read it
    except OSError as error:
        if error.errno not in STORAGE_FULL:
            raise
        raise Problem(507, "storage-full", "the platform's storage takes no more; nothing was stored") from error
    response.headers["Location"] = f"/datasets/{dataset.id}"
    return DatasetOut.of(dataset)


@router.get("", response_model=Page[DatasetOut], responses=conditional.NOT_MODIFIED)
def list_datasets(
    state: State,
    caller: Caller,
    response: Response,
    limit: Limit = 50,
    after: After = None,
    name: Annotated[str | None, Query(max_length=200, description="Only the versions of this name.")] = None,
    if_none_match: conditional.IfNoneMatch = None,
) -> Page[DatasetOut] | Response:
    """The team's data sets, newest first."""
    with state.database.transaction() as session:
        # Nothing of a data set changes but that it goes.
        listed = datasets.ids(session, caller, limit + 1, after, name)
        tag = conditional.tag_of(caller, limit, listed)
        if conditional.holds(if_none_match, tag):
            return conditional.not_modified(tag)
        rows = datasets.list_page(session, caller, limit + 1, after, name)
    conditional.mark(response, tag)
    return page(rows, limit, DatasetOut.of, lambda dataset: dataset.id)


@router.get("/{dataset_id}", responses=problems(404))
def get_dataset(dataset_id: str, state: State, caller: Caller) -> DatasetOut:
    """One data set."""
    with state.database.transaction() as session:
        return DatasetOut.of(datasets.get(session, caller, dataset_id))


@router.get("/{dataset_id}/rows", responses=problems(404))
def list_dataset_rows(
    dataset_id: str,
    state: State,
    caller: Caller,
    limit: Limit = 50,
    after: AfterNumber = 0,
    prompt: Column = None,
    answer: Column = None,
) -> Page[RowOut]:
    """The rows as the trainer reads them. `prompt` and `answer` name columns, as `data.columns` of a job does.

    Without them, those that the uploader named.
    """
    with state.database.transaction() as session:
        dataset = datasets.get(session, caller, dataset_id)
    path = state.artifacts.dataset_path(dataset.sha256, dataset.format)
    columns = Columns(prompt=prompt, answer=answer)
    if columns == Columns():
        columns = Columns.model_validate(dataset.column_mapping)
    try:
        rows = list(islice(read_problems(path, cast(DataFormat, dataset.format), columns, after=after), limit + 1))
    except DataError as error:
        # The file is right, so it was uploaded with other columns than these.
        raise invalid(["query"], f"{error}; uploaded with the columns {', '.join(dataset.columns)}") from error
    return page(rows, limit, RowOut.of, lambda row: row.row)


@router.get("/{dataset_id}/tokens", responses=problems(404))
def count_tokens(
    dataset_id: str, state: State, caller: Caller, model: Annotated[str, Query(max_length=300)]
) -> TokensOut:
    """How many tokens the prompts have for a model whose tokenizer this machine has."""
    with state.database.transaction() as session:
        dataset = datasets.get(session, caller, dataset_id)
        tokenizer = tokens.tokenizer_of(session, state, caller, model)
    path = state.artifacts.dataset_path(dataset.sha256, dataset.format)
    columns = Columns.model_validate(dataset.column_mapping)
    return tokens.count(model, tokenizer, read_problems(path, cast(DataFormat, dataset.format), columns))


@router.delete("/{dataset_id}", status_code=204, responses=problems(403, 404, 409))
def delete_dataset(dataset_id: str, state: State, member: Member) -> None:
    """Take a data set out of use; 409 while a job that has not ended reads it."""
    files.delete(state, member, dataset_id)
