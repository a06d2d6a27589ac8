"""The files behind data sets: stored once however often the same bytes are uploaded, gone with the last that uses them.

Storing and removing a content are kept apart by a lock in the artifact folder, so that the file of a data set that is
just being created is never removed on behalf of one that is just being deleted.
"""

from api.state import ApiState
from store import datasets
from store.access import Identity
from store.artifacts import Incoming
from store.models import Dataset
from trainer.spec.dataset import Statistics


def store(
    state: ApiState,
    identity: Identity,
    incoming: Incoming,
    *,
    name: str,
    filename: str,
    format: datasets.Format,
    columns: list[str],
    rows: int,
    unanswered_rows: int,
    column_mapping: dict[str, str],
    statistics: Statistics | None,
) -> Dataset:
    """Give the received file its place and its row: both or, as far as the two can be kept together, neither."""
    path = state.artifacts.dataset_path(incoming.sha256, format)
    with state.artifacts.content_lock(incoming.sha256), state.database.transaction() as session:
        dataset = datasets.create(
            session,
            identity,
            name=name,
            filename=filename,
            format=format,
            columns=columns,
            rows=rows,
            unanswered_rows=unanswered_rows,
            bytes=incoming.bytes,
            sha256=incoming.sha256,
            column_mapping=column_mapping,
            statistics=statistics,
            policy=state.policy,
        )
        # Before the commit: a row that others can see always has its file.
        if not path.exists():
            incoming.move_to(path)
    return dataset


def delete(state: ApiState, identity: Identity, dataset_id: str) -> None:
    """Take a data set out of use, and its file away unless another data set has the same content."""
    with state.database.transaction() as session:
        dataset = datasets.get(session, identity, dataset_id)
        datasets.delete(session, identity, dataset_id)
    with state.artifacts.content_lock(dataset.sha256):
        with state.database.transaction() as session:
            needed = datasets.blob_in_use(session, dataset.sha256)
        if not needed:
            state.artifacts.dataset_path(dataset.sha256, dataset.format).unlink(missing_ok=True)
