"""chart.js in the browser it is made for: what it computes before anything is drawn."""

import pytest

from dashboard import chart

pytestmark = pytest.mark.browser

CHECKS = """
const data = { kind: "lines", smooth: 0.5, series: [
  { x: [1, 2, 3, 4], y: [1, null, 3, 3], points: false },
  { x: [2, 4], y: [5, null], points: true },
] };
const midnight = new Date(2026, 0, 2).getTime() / 1000; // in whatever zone this is read
globalThis.found = {
  smoothed: smoothed([1, null, 3], 0.5),
  joined: aligned(data).columns.map((column) => column.map((value) => value === undefined ? "none" : value)),
  stacked: stacked([[1, 2], [0.2, null], [0.3, 0.4]]),
  labels: [axisLabels([0, 0.25, 0.5], "%"), axisLabels([0, 5000, 10000], ""), axisLabels([-0.02, 0, 0.02], ""),
    axisLabels([0.5, 0.525, 0.55], "")],
  lanes: lanesOf([{ low: 5, label: "b" }, { low: 1, label: "a" }, { low: 9, label: "b" }]),
  lonely: [[0, 4], [1, 1]].map((idxs) =>
    lonely({ data: [[], [1, null, 2, null, undefined]], series: [{ idxs }] }, 1, false)),
  clock: [clockLabels([midnight - 3600, midnight, midnight + 3600], 3600),
    clockLabels([midnight + 60, midnight + 75], 15), clockLabels([midnight, midnight + 86400], 86400)],
  ticks: [roundTicks(0.27, 0.62, 4), roundTicks(-1, 1, 2)],
  numbers: [0.5, 12345, 2e-6, null, -0.25].map((value) => formatNumber(value, "")),
  limits: [
    quantileLimits([...Array(200).keys(), 1e6], 0.01), // one outlier
    quantileLimits([...Array(200).keys()], 0.01), // none
    quantileLimits([...Array(10).keys(), 1e6], 0.01), // too few points to say what is usual
    quantileLimits([...Array(200).fill(3), 1e6], 0.01), // a constant
  ],
  outside: outsideText(outsideOf([{ value: 9 }, { value: 1 }, { value: 2 }, { value: 0 }], 1, 5), 3),
  positive: positiveOnly([[0, -1], [1, 0, -2, null, undefined, 3]]),
  withTail: joined({ x: [1, 2, 3], y: [1, 2, 3], low: null }, { x: [2, 4], y: [20, null] }),
  appended: joined({ x: [1], y: [1], low: [0], high: [2] }, { x: [2], y: [3], low: [2], high: [4] }),
  rows: legendRows({ measureText: (text) => ({ width: 10 * text.length }) }, ["aaaaa", "bbbbb", "c"], 150),
  aroundLog: [aroundLog(1, 8), aroundLog(4, 4)],
  inks: ["#000000", "#0b62b0", "#5aa9f0", "#ffffff"].map(inkOn),
};
"""


@pytest.fixture
def found(page):
    page.goto("about:blank")
    page.add_script_tag(content=chart.library_source().replace("export default", "const unused =") + CHECKS)
    return page.evaluate("globalThis.found")


def test_smoothing_starts_at_the_first_value_and_leaves_gaps(found):
    # The weights of 1 and 3 are 1/4 and 1/2: the gap neither counts nor decays.
    assert found["smoothed"] == [1, None, pytest.approx(7 / 3)]


def test_series_of_different_steps_share_an_axis_and_keep_their_gaps(found):
    """A null is a gap; a step that a series was not measured at is none. What is measured rarely is not smoothed."""
    assert found["joined"] == [
        [1, 2, 3, 4],
        [1, None, pytest.approx(7 / 3), pytest.approx(19 / 7)],
        [1, None, 3, 3],
        ["none", 5, "none", None],
    ]


def test_stacked_parts_add_up(found):
    assert found["stacked"] == [[1, 2], [0.2, None], [0.5, 0.4]]


def test_numbers_are_readable_at_any_size(found):
    assert found["labels"] == [
        ["0 %", "25 %", "50 %"],
        ["0k", "5k", "10k"],
        ["−0.02", "0.00", "0.02"],
        ["0.500", "0.525", "0.550"],
    ]
    assert found["numbers"] == ["0.5", "12.3k", "2.00e−6", "–", "−0.25"]


def test_a_value_between_two_gaps_is_marked_since_no_line_shows_it(found):
    assert found["lonely"] == [[0, 2], None]


def test_the_names_of_spans_have_a_lane_each_in_order_of_time(found):
    assert found["lanes"] == ["a", "b"]


def test_an_axis_over_time_tells_the_day_where_it_changes(found):
    assert found["clock"] == [["23:00", "2 Jan 00:00", "01:00"], ["00:01:00", "00:01:15"], ["2 Jan", "3 Jan"]]


def test_ticks_of_the_plane_are_round(found):
    assert found["ticks"] == [[0.3, 0.4, 0.5, 0.6], [-1, 0, 1]]


def test_an_axis_is_clipped_only_where_few_points_stretch_it(found):
    assert found["limits"] == [[2, 198], None, None, None]


def test_what_lies_outside_is_counted_and_not_dropped(found):
    assert found["outside"] == (
        "▲ 1 point above the axis · ▼ 1 point below it · 3 points at or below 0: not on a log axis"
    )


def test_on_a_log_axis_what_is_not_positive_is_a_gap_and_counted(found):
    # A column's missing values (undefined) come out of the browser as None, too.
    assert found["positive"] == {"drawn": [[0, -1], [1, None, None, None, None, 3]], "undrawable": 2}


def test_points_of_a_tail_replace_those_at_their_place_and_follow_the_others(found):
    assert (found["withTail"]["x"], found["withTail"]["y"]) == ([1, 2, 3, 4], [1, 20, 3, None])
    assert found["appended"] == {"x": [1, 2], "y": [1, 3], "low": [0, 2], "high": [2, 4]}


def test_a_pictures_legend_breaks_before_it_is_too_wide(found):
    assert [[item["index"] for item in row] for row in found["rows"]] == [[0], [1, 2]]


def test_the_ends_of_a_logarithmic_axis_lie_a_little_beyond_its_points(found):
    assert found["aroundLog"] == [[pytest.approx(0.92, abs=0.01), pytest.approx(8.7, abs=0.05)], [2, 8]]


def test_numbers_on_colours_are_black_or_white_as_contrasts_more(found):
    assert found["inks"] == ["#ffffff", "#ffffff", "#000000", "#000000"]
