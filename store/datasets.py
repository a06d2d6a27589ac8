"""Data sets: what is known of an uploaded file. The file itself lies in store.artifacts under its hash."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sqlalchemy import Select, func, or_, select, text
from sqlalchemy.orm import Session

from store import usage
from store.access import Identity, Scope, find, of_team, require
from store.errors import Conflict, NotFound
from store.ids import new_id
from store.models import Dataset, Job
from store.policy import DEFAULT, Policy
from store.status import TERMINAL
from store.tenancy import platform_view
from trainer.spec.dataset import Statistics

_VERSION_LOCK = 0x5653
"""Namespace of the advisory locks below."""

Format = Literal["jsonl", "csv", "parquet"]


@dataclass(frozen=True)
class DataFile:
    """Where the rows of a data set are: `Artifacts.dataset_path(sha256, format)`."""

    sha256: str
    format: str


def create(
    session: Session,
    identity: Identity,
    *,
    name: str,
    filename: str,
    format: Format,
    columns: list[str],
    rows: int,
    unanswered_rows: int = 0,
    bytes: int,
    sha256: str,
    column_mapping: dict[str, str] | None = None,
    statistics: Statistics | None = None,
    policy: Policy = DEFAULT,
) -> Dataset:
    """Store what is known of a file that lies in the artifact folder. LimitReached when the team may not keep it.

    It is the next version of its name. column_mapping: the columns that the uploader named, {"prompt": ..., "answer":
    ...}, either or both.
    """
    require(identity, Scope.DATASETS_WRITE)
    usage.admit_bytes(session, identity.team_id, bytes, policy)
    # Two uploads of one name at once are two versions.
    session.execute(
        text("SELECT pg_advisory_xact_lock(:space, hashtext(:name))"),
        {"space": _VERSION_LOCK, "name": f"{identity.team_id} {name}"},
    )
    newest = select(func.max(Dataset.version)).where(of_team(identity, Dataset), Dataset.name == name)
    dataset = Dataset(
        id=new_id("ds"),
        team_id=identity.team_id,
        created_by=identity.key_id,
        name=name,
        version=(session.scalar(newest) or 0) + 1,
        filename=filename,
        format=format,
        columns=columns,
        rows=rows,
        unanswered_rows=unanswered_rows,
        bytes=bytes,
        sha256=sha256,
        column_mapping=column_mapping or {},
        statistics=None if statistics is None else asdict(statistics),
    )
    session.add(dataset)
    session.flush()
    return dataset


def get(session: Session, identity: Identity, dataset_id: str) -> Dataset:
    """NotFound for a deleted one too."""
    dataset = find(session, identity, Dataset, dataset_id)
    if dataset.deleted_at is not None:
        raise NotFound("data set", dataset_id)
    return dataset


def list_page(
    session: Session, identity: Identity, limit: int, after: str | None = None, name: str | None = None
) -> list[Dataset]:
    """Newest first, from the one behind `after` on; with `name`, its versions."""
    return list(session.scalars(_page(select(Dataset), identity, limit, after, name)))


def ids(
    session: Session, identity: Identity, limit: int, after: str | None = None, name: str | None = None
) -> list[str]:
    """Of what `list_page` gives, for a fraction of its cost."""
    return list(session.scalars(_page(select(Dataset.id), identity, limit, after, name)))


def _page(statement: Select[Any], identity: Identity, limit: int, after: str | None, name: str | None) -> Select[Any]:
    statement = statement.where(of_team(identity, Dataset), Dataset.deleted_at.is_(None))
    statement = statement.order_by(Dataset.id.desc()).limit(limit)
    if name is not None:
        statement = statement.where(Dataset.name == name)
    return statement if after is None else statement.where(Dataset.id < after)


def hold(session: Session, identity: Identity, dataset_ids: Iterable[str]) -> dict[str, Dataset]:
    """Those of the ids that are the team's, deleted ones too. None can be deleted until this transaction ends."""
    # In the order of the ids, so that nobody waits in a ring.
    statement = select(Dataset).where(of_team(identity, Dataset), Dataset.id.in_(set(dataset_ids))).order_by(Dataset.id)
    locked = statement.with_for_update(read=True).execution_options(populate_existing=True)
    return {dataset.id: dataset for dataset in session.scalars(locked)}


def delete(session: Session, identity: Identity, dataset_id: str) -> None:
    """Take a data set out of use. Conflict while a job that has not ended reads it."""
    require(identity, Scope.DATASETS_WRITE)
    dataset = find(session, identity, Dataset, dataset_id, lock=True)
    if dataset.deleted_at is not None:
        raise NotFound("data set", dataset_id)
    user = session.scalars(
        select(Job.id)
        .where(
            of_team(identity, Job),
            Job.status.not_in(TERMINAL),
            or_(
                Job.spec["data"]["train"].astext == dataset_id,
                Job.spec["eval"].contains([{"data": dataset_id}]),
            ),
        )
        .limit(1)
    ).first()
    if user is not None:
        raise Conflict(f"{dataset_id} is in use by {user}; cancel it or wait for its end")
    dataset.deleted_at = session.scalar(select(func.clock_timestamp()))
    session.flush()


def files(session: Session, team_id: str, dataset_ids: Iterable[str]) -> dict[str, DataFile]:
    """For the worker: the file of each data set of a claimed job. NotFound names the first that is missing."""
    wanted = list(dataset_ids)
    rows = session.execute(
        select(Dataset.id, Dataset.sha256, Dataset.format).where(Dataset.id.in_(wanted), Dataset.team_id == team_id)
    )
    found = {id: DataFile(sha256, format) for id, sha256, format in rows}
    for dataset_id in wanted:
        if dataset_id not in found:
            raise NotFound("data set", dataset_id)
    return found


def blob_in_use(session: Session, sha256: str) -> bool:
    """Whether any team's data set still has this content, so that its file must stay."""
    statement = select(Dataset.id).where(Dataset.sha256 == sha256, Dataset.deleted_at.is_(None)).limit(1)
    with platform_view(session):
        return session.scalars(statement).first() is not None
