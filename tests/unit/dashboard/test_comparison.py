from dashboard import colors
from dashboard.comparison import Run, choices, extreme, labels, overlay, summary

RUNS = [Run("job_a", "asym", "running", 3, {}), Run("job_b", "grpo", "succeeded", 3, {})]
COLUMNS = {
    "job_a": {
        "group/accuracy": {"step": [1, 2, 3], "value": [0.2, 0.6, 0.5]},
        "group/none_solved": {"step": [1, 2, 3], "value": [0.3, 0.1, 0.2]},
        "entropy/informative": {"step": [1, 2, 3], "value": [None, 0.9, 0.4]},
        "group/histogram": {"step": [1], "value": [[1, 2]]},
        "eval/held/pass_at_k/1": {"step": [0], "value": [0.25]},
        "eval/held/pass_at_k/1/low": {"step": [0], "value": [0.2]},
        "eval/held/pass_at_k/1/high": {"step": [0], "value": [0.3]},
    },
    "job_b": {"group/accuracy": {"step": [1, 3], "value": [0.1, 0.4]}, "policy/loss": {"step": [1], "value": [0.1]}},
}


def test_equal_names_are_told_apart_by_the_end_of_their_ids():
    names = {"job_0001aaaaaa": "arith", "job_0002bbbbbb": "arith", "job_0003cccccc": "other"}
    assert list(labels(names).values()) == ["arith · aaaaaa", "arith · bbbbbb", "other"]


def test_metrics_on_offer_are_those_that_any_run_has_and_those_the_link_names():
    assert choices(COLUMNS.values(), ["policy/kl_ref"]) == [
        "entropy/informative",
        "eval/held/pass_at_k/1",
        "group/accuracy",
        "group/none_solved",
        "policy/kl_ref",
        "policy/loss",
    ]


def test_an_overlay_has_a_line_per_run_that_measured_it():
    styles = colors.of_runs(["job_a", "job_b"])
    chart = overlay("group/accuracy", RUNS, COLUMNS, styles)
    assert chart.unit == "%"
    assert [(line.label, line.color) for line in chart.series] == [
        ("asym", styles["job_a"][0]),
        ("grpo", styles["job_b"][0]),
    ]
    assert [line.label for line in overlay("policy/loss", RUNS, COLUMNS, styles).series] == ["grpo"]
    assert overlay("eval/held/pass_at_k/1", RUNS, COLUMNS, styles).series[0].low == [0.2]


def test_the_summary_knows_which_way_is_better():
    assert [extreme(key) for key in ("group/accuracy", "group/none_solved", "entropy/policy")] == [
        "highest",
        "lowest",
        "range",
    ]
    first, second = summary(RUNS, COLUMNS, ["group/accuracy", "group/none_solved", "entropy/informative"])
    assert first == {
        "run": "asym",
        "status": "running",
        "step": 3,
        "group/accuracy last": 0.5,
        "group/accuracy extreme": "0.6 (step 2)",
        "group/none_solved last": 0.2,
        "group/none_solved extreme": "0.1 (step 2)",
        "entropy/informative last": 0.4,
        "entropy/informative extreme": "0.4 to 0.9",
    }
    assert second["entropy/informative last"] is None
    assert second["entropy/informative extreme"] == "–"
