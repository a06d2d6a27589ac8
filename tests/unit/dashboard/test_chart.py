import json

from dashboard import chart
from dashboard.chart import Chart, Line
from dashboard.colors import BLUE


def test_the_payload_is_json_and_keeps_nulls():
    line = Line("a", BLUE, [1, 2, 3], [0.123456789, None, 3], low=[0.1, None, None], high=[0.2, None, None])
    sent = json.loads(json.dumps(chart.payload(Chart("t", series=[line]))))
    (series,) = sent["series"]
    assert series["y"] == [0.123457, None, 3]
    assert series["low"] == [0.1, None, None]
    assert sent["kind"] == "lines"


def test_a_refresh_carries_numbers_only():
    """1,000 points of a series fit in 20 kB; the chart's code (60 kB) is not sent along with them."""
    line = Line("a", BLUE, list(range(1000)), [index / 7 for index in range(1000)])
    assert len(json.dumps(chart.payload(Chart("t", series=[line])))) < 20_000
    assert len(chart.library_source()) > 50_000


def test_the_library_is_one_module_with_its_licence():
    source = chart.library_source()
    assert "uPlot" in source
    assert source.count("export default") == 1
    assert "MIT License" in (chart.files("dashboard.chart") / "LICENSE-uplot").read_text("utf-8")


def test_text_is_never_read_as_markup_in_the_browser():
    """Names of runs and benchmarks end up in legends and tooltips."""
    ours = (chart.files("dashboard.chart") / "chart.js").read_text("utf-8")
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert way not in ours


def test_a_moment_travels_to_the_tenth_of_a_second():
    """Of ten digits before the point, rounding to as many as other axes need would leave steps of ten seconds."""
    moments = [1795870000.1, 1795870000.4]
    line = Line("step", BLUE, moments, [1, 2])
    assert chart.payload(Chart("Steps done", series=[line], x_label="time"))["series"][0]["x"] == moments
