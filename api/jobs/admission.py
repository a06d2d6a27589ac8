"""What a job needs beyond a well-formed spec: its data sets, its model, and prompts that the model can read."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError
from sqlalchemy.orm import Session

from api.model_catalog import missing_because
from api.problems import Problem, all_invalid, all_missing, invalid, missing
from api.spec_errors import readable_errors
from api.state import ApiState
from store import jobs
from store.access import Identity
from store.errors import Invalid
from store.models import Dataset
from trainer.spec import JobSpec
from trainer.spec.backend import refused
from trainer.spec.changes import with_changes
from trainer.spec.dataset import DataError, DataFormat, read_problems, tiny_arith_offenders
from trainer.spec.job import Columns
from trainer.spec.reward import parse_kind

TINY_ARITH = "builtin/tiny-arith"
MAX_LISTED_ROWS = 1000
SHOWN_ROWS = 20

Loc = list[str | int]


def check_text(spec: JobSpec) -> None:
    """422 for the one character that Postgres cannot hold."""
    errors = [{"loc": loc, "msg": "holds the character U+0000"} for loc, text in _texts(spec) if "\0" in text]
    if errors:
        raise all_invalid(errors)


@contextmanager
def missing_references() -> Iterator[None]:
    """404 for what the store says the team does not have."""
    try:
        yield
    except Invalid as error:
        raise all_missing(error.errors) from error


def changed(spec: dict[str, Any], changes: dict[str, Any]) -> JobSpec:
    """A stored spec with changes; 422 that names each field that is wrong then."""
    merged = with_changes(spec, changes)
    try:
        return JobSpec.model_validate(merged)
    except ValidationError as error:
        raise all_invalid(readable_errors(error.errors(), merged)) from error


def check_references(session: Session, identity: Identity, spec: JobSpec, held: Mapping[str, Dataset]) -> None:
    """404 for each data set and checkpoint that the team does not have."""
    with missing_references():
        jobs.check_references(session, identity, spec, held)


def completed(spec: JobSpec, held: Mapping[str, Dataset]) -> JobSpec:
    """The spec with the columns that were named when its data sets were uploaded, wherever it names none itself."""

    def columns(dataset_id: str, named: Columns) -> Columns:
        if named != Columns() or dataset_id not in held:
            return named
        return Columns.model_validate(held[dataset_id].column_mapping)

    train = spec.data.model_copy(update={"columns": columns(spec.data.train, spec.data.columns)})
    benchmarks = [each.model_copy(update={"columns": columns(each.data, each.columns)}) for each in spec.eval]
    return spec.model_copy(update={"data": train, "eval": benchmarks})


def check(state: ApiState, spec: JobSpec, held: Mapping[str, Dataset]) -> list[str]:
    """Warnings; Problem 404 or 422 that names the field. The references have been checked; `held` has its data sets."""
    refusals = refused(spec)
    if refusals:
        raise all_invalid(
            [{"loc": ["body", *one.loc], "msg": f"backend {spec.backend}: {one.reason}"} for one in refusals]
        )
    reason = missing_because(spec.model.id, state.settings)
    if reason is not None:
        raise missing(["body", "model", "id"], reason)
    _check_verifier(state, spec)
    warnings = []
    train = held[spec.data.train]
    _check_rows(state, spec, ["body", "data", "train"], train, spec.data.columns)
    if train.rows < spec.optim.prompts_per_step:
        warnings.append(
            f"data.train has {train.rows} rows and a step samples optim.prompts_per_step = "
            f"{spec.optim.prompts_per_step} prompts: prompts come more than once in a step"
        )
    for index, benchmark in enumerate(spec.eval):
        _check_rows(state, spec, ["body", "eval", index, "data"], held[benchmark.data], benchmark.columns)
    return warnings


def _check_verifier(state: ApiState, spec: JobSpec) -> None:
    """422 for a verifier that the operator has not allowed."""
    family, name = parse_kind(spec.reward.kind)
    if family == "http" and name not in state.settings.http_verifiers:
        known = ", ".join(sorted(state.settings.http_verifiers)) or "none"
        raise invalid(
            ["body", "reward", "kind"], f"no http verifier {name!r} is configured on this platform; there are: {known}"
        )
    if family == "python" and state.settings.sandbox is None:
        raise invalid(
            ["body", "reward", "kind"],
            "python runs the job's own code, which needs a sandbox, and this platform has none configured "
            "(ASYM_SANDBOX=bubblewrap)",
        )


def _check_rows(state: ApiState, spec: JobSpec, loc: Loc, dataset: Dataset, columns: Columns) -> None:
    if dataset.rows == 0:
        raise invalid(loc, f"the data set {dataset.id} is empty")
    path = state.artifacts.dataset_path(dataset.sha256, dataset.format)
    content = (path, cast(DataFormat, dataset.format), columns)
    try:
        if spec.model.id == TINY_ARITH:
            offenders = _offenders(*content, spec.data.prompt_template)
            if offenders:
                raise _unreadable(loc, dataset.id, offenders)
        else:
            _read_one(*content)
    except DataError as error:
        used = ", ".join(dataset.columns)
        raise invalid(
            [*loc[:-1], "columns"], f"{error}; {dataset.id} was uploaded with the columns {used}: name them here"
        ) from error


# A path holds the hash of what is in the file, so what was once found of it holds for ever.


@lru_cache(maxsize=1024)
def _offenders(path: Path, format: DataFormat, columns: Columns, template: str | None) -> tuple[int, ...]:
    return tuple(tiny_arith_offenders(read_problems(path, format, columns), template, limit=MAX_LISTED_ROWS))


@lru_cache(maxsize=1024)
def _read_one(path: Path, format: DataFormat, columns: Columns) -> None:
    """DataError unless these are its columns: the file was read whole when it was uploaded, so one row tells."""
    list(islice(read_problems(path, format, columns), 1))


def _unreadable(loc: Loc, dataset_id: str, rows: Sequence[int]) -> Problem:
    shown = ", ".join(map(str, rows[:SHOWN_ROWS])) + (", ..." if len(rows) > SHOWN_ROWS else "")
    detail = f"prompts of {dataset_id} have characters that {TINY_ARITH} does not know, in row {shown}"
    return Problem(422, "invalid", detail, errors=[{"loc": loc, "msg": detail, "rows": list(rows)}])


def _texts(spec: JobSpec) -> list[tuple[Loc, str]]:
    found: list[tuple[Loc, str]] = []

    def walk(loc: Loc, value: object) -> None:
        if isinstance(value, str):
            found.append((loc, value))
        elif isinstance(value, dict):
            for key, item in value.items():
                walk([*loc, key], item)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                walk([*loc, index], item)

    walk(["body"], spec.model_dump(mode="json"))
    return found
