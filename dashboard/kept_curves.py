"""The curves of a page, kept by a browser session and brought up to date by what has changed.

The first answer holds whole curves, thinned by the API; after that each request says what it has seen (`since`) and the
answer is the points that are new. Runs that have ended are not asked about again.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from client import Asym
from client.results import TERMINAL
from dashboard.curves import Columns
from dashboard.live import Feed

JOBS_AT_ONCE = 50
"""How many runs one GET /compare may name."""
WHOLE = -1
"""`drop_after` of an answer that replaces everything."""

Thinned = Literal["extremes", "same_steps"]


@dataclass(frozen=True)
class Question:
    """Which curves: another question begins anew."""

    job_ids: tuple[str, ...]
    keys: tuple[str, ...]
    max_points: int
    thinned: Thinned = "extremes"
    steps: tuple[int, int] | None = None
    """Only these, both ends included."""


@dataclass
class KeptCurves:
    question: Question
    columns: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By job id."""
    status: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    renewed: int = 0
    """How often whole curves came: what rests on them may be made anew then."""
    requests: int = 0
    """Sent so far."""
    _cursors: dict[str, str] = field(default_factory=dict)
    _added: dict[str, int] = field(default_factory=dict)
    """Steps put in since the whole curves came: these are not thinned."""

    @property
    def active(self) -> bool:
        return any(status not in TERMINAL for status in self.status.values())

    def bring_up_to_date(self, api: Asym) -> "KeptCurves":
        """One request for each 50 runs that may have changed. What an outage cuts off is asked for the next time."""
        open_ids = [job_id for job_id in self.question.job_ids if self.status.get(job_id) not in TERMINAL]
        for start in range(0, len(open_ids), JOBS_AT_ONCE):
            self._ask(api, open_ids[start : start + JOBS_AT_ONCE])
        return self

    def _ask(self, api: Asym, job_ids: Sequence[str]) -> None:
        question = self.question
        for job_id in job_ids:
            if self._added.get(job_id, 0) > question.max_points // 2:
                self._cursors[job_id] = "0"  # thinned anew
        begin, end = question.steps or (None, None)
        answer = api.compare(
            job_ids,
            question.keys,
            max_points=question.max_points,
            since=",".join(self._cursors.get(job_id, "0") for job_id in job_ids),
            from_step=begin,
            to_step=end,
            thinned=question.thinned if question.thinned != "extremes" else None,
        )
        self.requests += 1
        for job_id, cursor in zip(job_ids, str(answer["cursor"]).split(","), strict=True):
            job = answer["jobs"][job_id]
            self.status[job_id], self.names[job_id] = job["status"], job["name"]
            self._put_in(job_id, job["keys"], job.get("drop_after"))
            self._cursors[job_id] = cursor

    def _put_in(self, job_id: str, news: Columns, drop_after: int | None) -> None:
        if drop_after == WHOLE:
            self.columns[job_id] = {key: dict(series) for key, series in news.items()}
            self._added[job_id] = 0
            self.renewed += 1
            return
        columns = self.columns.setdefault(job_id, {})
        if drop_after is not None:
            for key, series in columns.items():
                kept = bisect_right(series["step"], drop_after)
                columns[key] = {"step": series["step"][:kept], "value": series["value"][:kept]}
        for key, series in news.items():
            columns[key] = _over(columns.get(key, {"step": [], "value": []}), series)
        self._added[job_id] = self._added.get(job_id, 0) + max((len(each["step"]) for each in news.values()), default=0)


def up_to_date(feed: Feed, state: dict[str, Any], name: str, question: Question) -> KeptCurves:
    """This session's curves of this name, with what has come since; while the API is away, as they were.

    state: where they are kept; those of another question go.
    """
    kept = state.get(name)
    if kept is None or kept.question != question:
        kept = KeptCurves(question)
    found: KeptCurves = feed.get(f"curves/{name}/{question}", kept.bring_up_to_date)
    state[name] = found
    return found


def _over(known: Any, news: Any) -> dict[str, Any]:  # noqa: ANN401 (a series)
    """The points of `news` put into those known, over what is there at the same step."""
    if not known["step"] or not news["step"] or news["step"][0] > known["step"][-1]:
        return {"step": known["step"] + news["step"], "value": known["value"] + news["value"]}
    points = dict(zip(known["step"], known["value"], strict=True))
    points.update(zip(news["step"], news["value"], strict=True))
    steps = sorted(points)
    return {"step": steps, "value": [points[step] for step in steps]}
