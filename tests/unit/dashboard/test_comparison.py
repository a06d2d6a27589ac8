import pytest

from dashboard import axes, colors, seeds
from dashboard.comparison import Look, Material, Run, asked_for, choices, extreme, groups, labels, overlay, summary

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


STYLES = colors.of_runs(["job_a", "job_b"])
MATERIAL = Material(COLUMNS, STYLES)
APART = groups(RUNS, seeds.APART)


def test_an_overlay_has_a_line_per_run_that_measured_it():
    chart = overlay("group/accuracy", APART, MATERIAL, Look())
    assert chart.unit == "%"
    assert [(line.label, line.color) for line in chart.series] == [
        ("asym", STYLES["job_a"][0]),
        ("grpo", STYLES["job_b"][0]),
    ]
    assert [line.label for line in overlay("policy/loss", APART, MATERIAL, Look()).series] == ["grpo"]
    assert overlay("eval/held/pass_at_k/1", APART, MATERIAL, Look()).series[0].low == [0.2]


def test_a_chart_asks_for_its_intervals_and_for_what_its_axis_is_measured_by():
    assert asked_for(["eval/a/pass_at_k/1", "reward/mean"], axes.TOKENS) == (
        "eval/a/pass_at_k/1",
        "reward/mean",
        "eval/a/pass_at_k/1/low",
        "eval/a/pass_at_k/1/high",
        "progress/tokens",
    )


TRIO = [
    Run("job_1", "asym-s0", "succeeded", 4, {"name": "asym-s0", "seed": 0, "optim": {"lr": 1}}),
    Run("job_2", "asym-s1", "running", 3, {"name": "asym-s1", "seed": 1, "optim": {"lr": 1}}),
    Run("job_3", "other", "succeeded", 4, {"name": "other", "seed": 0, "optim": {"lr": 2}}),
]
TRIO_COLUMNS = {
    "job_1": {"r": {"step": [1, 2, 3, 4], "value": [1.0, 2.0, None, 4.0]}},
    "job_2": {"r": {"step": [1, 2, 3], "value": [3.0, 2.0, 5.0]}},
    "job_3": {"r": {"step": [2, 4], "value": [7.0, 8.0]}},
}
TRIO_MATERIAL = Material(TRIO_COLUMNS, colors.of_runs([run.id for run in TRIO]))


def test_seeds_become_a_mean_where_all_of_them_have_a_value():
    shown = groups(TRIO, seeds.RANGE)
    assert [(group.label, len(group.runs)) for group in shown] == [("asym", 2), ("other", 1)]
    together, alone = overlay("r", shown, TRIO_MATERIAL, Look(band=seeds.RANGE)).series
    assert (together.label, together.x, together.y) == ("asym · n = 2", [1, 2], [2.0, 2.0])
    assert (together.low, together.high, together.notes) == ([1.0, 2.0], [3.0, 2.0], ["n = 2", "n = 2"])
    assert together.color == TRIO_MATERIAL.styles["job_1"][0]
    assert (alone.label, alone.y, alone.low) == ("other", [7.0, 8.0], None)


def test_fewer_seeds_are_enough_where_that_is_asked_for_and_told():
    chart = overlay("r", groups(TRIO, seeds.RANGE), TRIO_MATERIAL, Look(band=seeds.RANGE, least=1))
    assert (chart.series[0].x, chart.series[0].y) == ([1, 2, 3, 4], [2.0, 2.0, 5.0, 4.0])
    assert chart.series[0].notes == ["n = 2", "n = 2", "n = 1", "n = 1"]
    assert "where 1 or more have a value" in chart.subtitle


def test_a_group_is_summed_up_with_its_spread():
    first, second = summary(groups(TRIO, seeds.SD), TRIO_COLUMNS, ["r"])
    assert (first["", "run"], first["", "runs"]) == ("asym", 2)
    assert (first["", "step"], first["", "status"]) == (3, "succeeded, running")
    assert first["r", "last"] == 4.5
    assert first["r", "spread"] == pytest.approx(0.5**0.5)
    assert (second["r", "last"], second["r", "spread"]) == (8.0, None)


def test_over_tokens_points_lie_where_the_run_had_trained_on_so_many():
    tokens = {"step": [2, 4], "value": [200, 800]}
    columns = {"job_3": {**TRIO_COLUMNS["job_3"], "progress/tokens": tokens}}
    chart = overlay("r", groups(TRIO[2:], seeds.APART), Material(columns, TRIO_MATERIAL.styles), Look(axis=axes.TOKENS))
    assert (chart.series[0].x, chart.series[0].y, chart.x_label) == ([200.0, 800.0], [7.0, 8.0], "tokens")
    unknown = overlay("r", groups(TRIO[2:], seeds.APART), TRIO_MATERIAL, Look(axis=axes.TOKENS))
    assert unknown.series == []


def test_the_summary_knows_which_way_is_better():
    assert [extreme(key) for key in ("group/accuracy", "group/none_solved", "entropy/policy")] == [
        "highest",
        "lowest",
        "range",
    ]
    first, second = summary(APART, COLUMNS, ["group/accuracy", "group/none_solved", "entropy/informative"])
    assert first == {
        ("", "run"): "asym",
        ("", "runs"): 1,
        ("", "status"): "running",
        ("", "step"): 3,
        ("group/accuracy", "last"): 50.0,
        ("group/accuracy", "spread"): None,
        ("group/accuracy", "extreme"): "60.0 % (step 2)",
        ("group/none_solved", "last"): 20.0,
        ("group/none_solved", "spread"): None,
        ("group/none_solved", "extreme"): "10.0 % (step 2)",
        ("entropy/informative", "last"): 0.4,
        ("entropy/informative", "spread"): None,
        ("entropy/informative", "extreme"): "0.4 to 0.9",
    }
    assert second["entropy/informative", "last"] is None
    assert second["entropy/informative", "extreme"] == "–"
