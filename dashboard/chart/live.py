"""Charts of long curves that go on: each curve travels once, and after that only what is new of it.

    sender = Sender()                                   kept as long as the page is (session state)
    with sender.refresh(key="compare") as refresh:      once per refresh
        refresh.show(Chart(...), key="reward")

A chart's message stays the same bytes from refresh to refresh, so Streamlit sends it once and refers to it afterwards.
What has come since then travels in one small message for all charts (`chart.tails`), from the message's own end on and
not from the last refresh: whatever a browser has missed, or if it is another one, message and tail are the whole curve.
Once the tail has grown as long as it is cheap to send, or a curve was taken back, the message is made anew.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from dashboard import chart
from dashboard.chart import DIGITS, X_DIGITS, Chart, Line, Value, payload, rounded

LONGEST_TAIL = 64
"""Points of a line. With messages of 600 points a line, and one to a few new ones a refresh, about the cheapest."""

_version = count(1)


@dataclass
class _Sent:
    """A chart as the browser has it, without its tail."""

    chart: Chart
    version: int
    message: bytes


@dataclass
class Sender:
    sent: dict[str, _Sent] = field(default_factory=dict)

    @contextmanager
    def refresh(self, key: str) -> Iterator["Refresh"]:
        """key: of the message with the tails."""
        refresh = Refresh(self.sent)
        yield refresh
        chart.tails(refresh.tails, key=key)
        # What is on no page any more need not be remembered.
        for gone in self.sent.keys() - refresh.shown:
            del self.sent[gone]


@dataclass
class Refresh:
    sent: dict[str, _Sent]
    tails: dict[str, Any] = field(default_factory=dict)
    shown: set[str] = field(default_factory=set)

    def show(
        self,
        drawn: Chart,
        *,
        key: str,
        on_range: Callable[[], None] | None = None,
        on_step: Callable[[], None] | None = None,
    ) -> None:
        self.shown.add(key)
        before = self.sent.get(key)
        tail = None if before is None else tail_of(before.chart, drawn)
        if before is None or tail is None:
            before = self.sent[key] = _sent(drawn, key)
            tail = [_no_points(line) for line in drawn.series]
        self.tails[key] = {"version": before.version, "lines": tail}
        chart.show(drawn, key=key, on_range=on_range, on_step=on_step, encoded=before.message)


def _sent(drawn: Chart, key: str) -> _Sent:
    version = next(_version)
    head = {**payload(replace(drawn, series=())), "name": key, "version": version}
    del head["series"]
    lines = ",".join(_as_json(line) for line in drawn.series)
    return _Sent(drawn, version, f'{json.dumps(head)[:-1]}, "series": [{lines}]}}'.encode())


def _as_json(line: Line) -> str:
    """As json.dumps of its payload; its columns, which are long, are written at once and not rounded first."""
    head = {name: value for name, value in vars(line).items() if name not in ("x", "y", "low", "high", "keys")}
    columns = [f'"x": {_column(line.x, X_DIGITS)}', f'"y": {_column(line.y, DIGITS)}']
    for name, column in (("low", line.low), ("high", line.high)):
        columns.append(f'"{name}": {"null" if column is None else _column(column, DIGITS)}')
    return f"{json.dumps(head)[:-1]}, {', '.join(columns)}}}"


def _column(values: Sequence[Value], digits: int) -> str:
    form = f"%.{digits}g"
    texts = [form % value if isinstance(value, float) else "null" if value is None else str(value) for value in values]
    return f"[{','.join(texts)}]"


def tail_of(before: Chart, now: Chart) -> list[dict[str, Any]] | None:
    """By line, the points of `now` that are new or others than `before`; None where that is no short continuation."""
    if replace(now, series=(), zoom=None) != replace(before, series=(), zoom=None):
        return None
    if [_look(line) for line in now.series] != [_look(line) for line in before.series]:
        return None
    tails = []
    for old, new in zip(before.series, now.series, strict=True):
        points = _new_points(old, new)
        if points is None or len(points) > LONGEST_TAIL:
            return None
        tails.append(_picked(new, points))
    return tails


def _look(line: Line) -> Line:
    return replace(
        line,
        x=(),
        y=(),
        low=None if line.low is None else (),
        high=None if line.high is None else (),
        notes=None if line.notes is None else (),
    )


def _new_points(old: Line, new: Line) -> Sequence[int] | None:
    """Their places in `new`; None when a point of `old` is no more."""
    known = len(old.x)
    if all(a is None or list(a) == list((b or ())[:known]) for a, b in zip(_columns(old), _columns(new), strict=True)):
        return range(known, len(new.x))
    before = dict(zip(old.x, zip(*_present(old), strict=True), strict=True))
    after = dict(zip(new.x, zip(*_present(new), strict=True), strict=True))
    if not before.keys() <= after.keys():
        return None
    return [at for at, (x, values) in enumerate(after.items()) if x not in before or before[x] != values]


def _columns(line: Line) -> tuple[Sequence[Any] | None, ...]:
    return line.x, line.y, line.low, line.high, line.notes


def _present(line: Line) -> list[Sequence[Any]]:
    return [column for column in _columns(line)[1:] if column is not None]


def _picked(line: Line, places: Sequence[int]) -> dict[str, Any]:
    columns = {"y": line.y, "low": line.low, "high": line.high}
    picked: dict[str, Any] = {"x": rounded([line.x[at] for at in places], X_DIGITS)}
    for name, column in columns.items():
        if column is not None:
            picked[name] = rounded([column[at] for at in places], DIGITS)
    if line.notes is not None:
        picked["notes"] = [line.notes[at] for at in places]
    return picked


def _no_points(line: Line) -> dict[str, Any]:
    return _picked(line, ())
