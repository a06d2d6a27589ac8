"""Charts that go on: what travels at a refresh."""

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from dashboard.chart import Chart, Line, payload
from dashboard.chart.live import LONGEST_TAIL, Refresh, tail_of
from dashboard.colors import BLUE, GREEN

LONG = Line("a", BLUE, list(range(600)), [step / 7 for step in range(600)])


def chart(*lines, **more):
    return Chart("t", series=lines, **more)


def longer(line, *values):
    begin = line.x[-1] + 1
    return replace(line, x=[*line.x, *range(begin, begin + len(values))], y=[*line.y, *values])


def test_the_next_refresh_carries_the_new_points_alone():
    tail = tail_of(chart(LONG), chart(longer(LONG, 0.5, None)))
    assert tail == [{"x": [600, 601], "y": [0.5, None]}]
    assert tail_of(chart(LONG), chart(LONG)) == [{"x": [], "y": []}]


def test_a_point_that_came_late_or_changed_is_part_of_it():
    known = Line("a", BLUE, [0, 10, 20], [0.0, 1.0, 2.0], low=[0, 0, 0], high=[1, 1, 1])
    now = Line("a", BLUE, [0, 5, 10, 20], [0.0, 0.5, 1.0, 3.0], low=[0, 0, 0, 0], high=[1, 1, 1, 9])
    assert tail_of(chart(known), chart(now)) == [{"x": [5, 20], "y": [0.5, 3.0], "low": [0, 0], "high": [1, 9]}]


def test_it_is_sent_anew_when_points_were_taken_back_or_it_is_another_chart():
    shorter = replace(LONG, x=LONG.x[:-1], y=LONG.y[:-1])
    assert tail_of(chart(LONG), chart(shorter)) is None
    assert tail_of(chart(LONG), chart(LONG, replace(LONG, label="b"))) is None
    assert tail_of(chart(LONG), chart(replace(LONG, color=GREEN))) is None
    assert tail_of(chart(LONG), chart(LONG, smooth=0.5)) is None
    assert tail_of(chart(LONG), chart(longer(LONG, *range(LONGEST_TAIL + 1)))) is None
    assert tail_of(chart(LONG), chart(LONG, zoom=(1, 2))) is not None, "a zoom is the browser's own"


LINES = st.dictionaries(st.integers(0, 40), st.none() | st.integers(0, 9), max_size=20)


@given(LINES, LINES)
def test_message_and_tail_are_the_whole_curve(before, after):
    """What chart/drawing.js does with them: the tail's points over those at the same place."""
    old, new = (Line("a", BLUE, sorted(points), [points[x] for x in sorted(points)]) for points in (before, after))
    tail = tail_of(chart(old), chart(new))
    if tail is None:
        assert not before.keys() <= after.keys()
        return
    assert {**before, **dict(zip(tail[0]["x"], tail[0]["y"], strict=True))} == after


def test_the_message_is_what_any_chart_sends(monkeypatch):
    messages = []
    monkeypatch.setattr("dashboard.chart.show", lambda *_, encoded, **more: messages.append(json.loads(encoded)))
    line = Line('a "b"', BLUE, [0, 1.5, 1e-7], [0.123456789, None, 3], low=[1e300, 0, -0.0], high=[1, 2, 3])
    drawn = chart(line, LONG, y_min=0.0, csv="export/x")
    Refresh({}).show(drawn, key="c")
    (message,) = messages
    assert (message.pop("name"), message.pop("version") > 0) == ("c", True)
    assert message == json.loads(json.dumps(payload(drawn)))


def test_twenty_runs_that_go_on_cost_few_bytes(monkeypatch):
    """Four charts of 20 runs with 600 points: the messages stay the same bytes, which are not sent again."""
    shown, sent = [], {}
    monkeypatch.setattr("dashboard.chart.show", lambda *_, encoded, **more: shown.append(encoded))
    lines = [replace(LONG, label=f"run {number}") for number in range(20)]
    for points in range(3):
        refresh = Refresh(sent)
        for number in range(4):
            refresh.show(chart(*(longer(line, *range(points)) for line in lines)), key=f"chart {number}")
    messages = sum(map(len, shown[:4]))
    assert shown[4:8] == shown[:4] == shown[8:]
    assert messages < 1_000_000
    assert len(json.dumps(refresh.tails)) < 6_000
