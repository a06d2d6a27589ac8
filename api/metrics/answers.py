"""From a question about metrics to the bytes of its answer: not at all (304), out of the cache, or read and written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Response
from pydantic_core import to_json
from sqlalchemy.orm import Session

from api.conditional import holds, tag_of
from api.state import ApiState
from store.access import Identity
from store.metrics import changes, reading
from store.metrics.curve import Curve
from store.metrics.reading import Head
from store.metrics.selection import Selection

_EVERYTHING = -1
"""`drop_after` of an answer that replaces all there was."""


@dataclass(frozen=True)
class Question:
    """Which metrics of which jobs. Two equal ones about jobs in the same state have the same answer."""

    job_ids: tuple[str, ...]
    selection: Selection
    max_points: int
    from_step: int | None = None
    to_step: int | None = None
    since: tuple[int, ...] | None = None
    """Of each job the revision that the asker has seen; 0: nothing yet. None: what there is, without a cursor."""
    compared: bool = False
    """Asked through /compare: each job with its name and status."""
    same_steps: bool = False
    """Thinned to the same steps of every run, not to each one's extremes."""


def answer(state: ApiState, identity: Identity, question: Question, if_none_match: str | None) -> Response:
    """NotFound for a job that is not the team's."""
    with state.database.transaction(snapshot=True) as session:
        heads = reading.heads(session, identity, question.job_ids)
        shown = [(head.revision, (head.name, head.status.value) if question.compared else ()) for head in heads]
        key = (identity.team_id, question, tuple(shown))
        tag = tag_of(identity, key)
        headers = {"ETag": tag, "Cache-Control": "private, no-cache", "Vary": "Authorization, Accept"}
        if holds(if_none_match, tag):
            return Response(status_code=304, headers=headers)
        body = state.answers.get(key)
        if body is None:
            body = to_json(_content(session, question, heads))
            state.answers.put(key, body)
    return Response(body, media_type="application/json", headers=headers)


def _content(session: Session, question: Question, heads: Sequence[Head]) -> dict[str, Any]:
    jobs = _changed(session, question, heads)
    whole = [head for head in heads if head.job_id not in jobs]
    curves = reading.read(
        session,
        whole,
        question.selection,
        question.max_points,
        question.from_step,
        question.to_step,
        same_steps=question.same_steps,
    )
    extra = {} if question.since is None else {"drop_after": _EVERYTHING}
    jobs |= {job_id: {"keys": _columns(found), **extra} for job_id, found in curves.items()}
    content: dict[str, Any]
    if question.compared:
        content = {
            "jobs": {
                head.job_id: {"name": head.name, "status": head.status.value, **jobs[head.job_id]} for head in heads
            }
        }
    else:
        content = jobs[heads[0].job_id]
    if question.since is not None:
        content["cursor"] = ",".join(str(head.revision) for head in heads)
    return content


def _changed(session: Session, question: Question, heads: Sequence[Head]) -> dict[str, dict[str, Any]]:
    """The jobs of which a reader needs only what has changed: not those seen for the first time, or changed a lot."""
    seen = [(head, revision) for head, revision in zip(heads, question.since or (), strict=False) if revision]
    found = changes.of_jobs(
        session, seen, question.selection, question.max_points, question.from_step, question.to_step
    )
    return {
        job_id: {"keys": _columns(changed.curves), "drop_after": changed.drop_after}
        for job_id, changed in found.items()
        if changed is not None
    }


def _columns(curves: Mapping[str, Curve]) -> dict[str, dict[str, Any]]:
    return {key: {"step": curve.step, "value": curve.value} for key, curve in curves.items()}
