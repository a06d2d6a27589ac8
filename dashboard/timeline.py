"""What a run was doing when it was not training: waiting, starting, paused, or lost with its worker.

Pure functions over the run's journal (GET /jobs/{id}/events without the entries of steps) and the moments at which its
steps were done. Times are seconds since 1970.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

Kind = Literal["waiting", "starting", "paused", "lost"]

SHORTEST = 0.5
"""Seconds below which a period is not worth a shade."""


@dataclass(frozen=True)
class Period:
    """`start` to `end` the run did this. `end` is None as long as it goes on."""

    kind: Kind
    start: float
    end: float | None
    note: str = ""
    """In the platform's words; text that came from a process is not in it."""


def periods(events: Iterable[Mapping[str, Any]], finished: Sequence[float] = ()) -> list[Period]:
    """In order of time, without overlaps. finished: when the steps were done, as far as they are known.

    A worker that was lost is noticed when its lease has run out, and what it did since the last checkpoint is lost with
    it: the period begins with the last step that counts, or the last thing that was heard of the run.
    """
    found: list[Period] = []
    open_period: Period | None = None
    heard = 0.0
    for event in events:
        at = datetime.fromisoformat(event["at"]).timestamp()
        status = _status(event)
        ends = status is not None
        if _starts_training(event):
            # Journaled along with the first steps: the trainer's clock tells when it was before them.
            ends, at = True, min(at, float(event["data"].get("time", at)))
        if open_period is not None and ends:
            found.append(replace(open_period, end=at))
            open_period = None
        if status == "queued":
            attempt = int(event.get("attempt") or 0)
            if event["data"].get("crashed"):
                last = max((moment for moment in finished if heard <= moment <= at), default=heard or at)
                found.append(Period("lost", last, at, f"attempt {attempt} was lost"))
            open_period = Period("waiting", at, None, "waits for a worker")
        elif status == "running":
            open_period = Period("starting", at, None, f"attempt {event['attempt']} starts")
        elif status == "paused":
            open_period = Period("paused", at, None, "paused")
        heard = at
    if open_period is not None:
        found.append(open_period)
    return [each for each in found if each.end is None or each.end - each.start >= SHORTEST]


def _status(event: Mapping[str, Any]) -> str | None:
    return str(event["data"].get("status")) if event["type"] == "state" else None


def _starts_training(event: Mapping[str, Any]) -> bool:
    return event["type"] == "message" and "resumed_from" in event["data"]
