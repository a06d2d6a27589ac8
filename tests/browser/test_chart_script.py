"""chart.js in the browser it is made for: what it computes before anything is drawn."""

import pytest

from dashboard import chart

pytestmark = pytest.mark.browser

CHECKS = """
const data = { kind: "lines", smooth: 0.5, series: [
  { x: [1, 2, 3, 4], y: [1, null, 3, 3], points: false },
  { x: [2, 4], y: [5, null], points: true },
] };
globalThis.found = {
  smoothed: smoothed([1, null, 3], 0.5),
  joined: aligned(data).columns.map((column) => column.map((value) => value === undefined ? "none" : value)),
  stacked: stacked([[1, 2], [0.2, null], [0.3, 0.4]]),
  labels: [axisLabels([0, 0.25, 0.5], "%"), axisLabels([0, 5000, 10000], ""), axisLabels([-0.02, 0, 0.02], ""),
    axisLabels([0.5, 0.525, 0.55], "")],
  numbers: [0.5, 12345, 2e-6, null, -0.25].map((value) => formatNumber(value, "")),
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
