from dataclasses import replace
from itertools import pairwise

import pytest

from dashboard import alerts, panels
from dashboard.panels import coverage, exploration, system
from dashboard.panels.section import Subject, train_ks
from dashboard.timeline import Period

SPEC = {
    "rollout": {"group_size": 6, "max_new_tokens": 8},
    "optim": {"prompts_per_step": 4},
    "algorithm": {"beta_pos": 0.9, "beta_neg": 0.4},
    "eval": [{"name": "held", "k": [4, 1]}],
}


def columns(**series):
    return {key: {"step": list(steps), "value": list(values)} for key, (steps, values) in series.items()}


LEARNING = columns(
    **{
        "group/accuracy": ([1, 2, 3], [0.0, 0.25, 0.5]),
        "reward/mean": ([1, 2, 3], [0.0, 0.25, 0.5]),
        "entropy/informative": ([1, 2, 3], [None, 0.8, 0.7]),
        "entropy/informative_tokens": ([1, 2, 3], [0, 30, 12_000]),
        "entropy/spurious": ([1, 2, 3], [1.2, 1.1, 1.0]),
        "entropy/policy": ([1, 2, 3], [1.2, 1.0, 0.9]),
        "group/none_solved": ([1, 2, 3], [1.0, 0.5, 0.25]),
        "group/mixed": ([1, 2, 3], [0.0, 0.5, 0.5]),
        "group/all_solved": ([1, 2, 3], [0.0, 0.0, 0.25]),
        "group/effective": ([1, 2, 3], [0.0, 0.5, 0.5]),
        "group/histogram": ([1, 2], [[4, 0, 0, 0, 0, 0, 0], [2, 1, 0, 0, 1, 0, 0]]),
        "eval/held/pass_at_k/1": ([0, 3, 6], [0.2, 0.4, 0.6]),
        "eval/held/pass_at_k/4": ([0, 3, 6], [0.5, 0.7, 0.8]),
        "eval/held/pass_at_k/1/low": ([0, 3, 6], [0.1, 0.3, 0.5]),
        "eval/held/pass_at_k/1/high": ([0, 3, 6], [0.3, 0.5, 0.7]),
    }
)


def charts(section, found, spec=SPEC, **subject):
    return panels.SECTIONS[section].charts(found, Subject(spec, **subject))


def test_both_entropies_are_on_one_chart_with_gaps_and_counts():
    chart = charts("Exploration", LEARNING)["entropy"]
    assert [line.label for line in chart.series] == ["informative (correct)", "spurious (incorrect)", "all tokens"]
    informative = chart.series[0]
    assert informative.y == [None, 0.8, 0.7]
    assert informative.notes == ["0 tokens", "30 tokens", "12k tokens"]


def test_the_plane_leaves_out_steps_without_both_entropies_and_tells_the_betas():
    chart = charts("Exploration", LEARNING)["plane"]
    assert (chart.plane.step, chart.plane.x, chart.plane.y) == ([2, 3], [0.8, 0.7], [1.1, 1.0])
    assert "beta_pos 0.9, beta_neg 0.4" in chart.subtitle
    assert exploration.betas({"algorithm": {"preset": "dr_grpo", "beta_pos": None}}) == ""


def test_a_moving_mean_takes_the_neighbours_that_there_are():
    assert exploration.moving_mean([0.0, 3.0, 0.0, 3.0, 6.0], 1) == [1.5, 1.0, 2.0, 3.0, 4.5]
    assert exploration.moving_mean([1.0, 5.0], 0) == [1.0, 5.0]


def test_accuracy_shows_training_and_every_benchmark_at_its_smallest_k():
    chart = charts("Overview", LEARNING)["accuracy"]
    assert [line.label for line in chart.series] == ["training prompts", "held pass@1"]
    assert chart.series[1].low == [0.1, 0.3, 0.5]


def test_a_reward_of_its_own_is_drawn_beside_the_accuracy():
    graded = {**LEARNING, "reward/mean": {"step": [1, 2, 3], "value": [0.1, 0.3, 0.5]}}
    assert "mean reward" in [line.label for line in charts("Overview", graded)["accuracy"].series]


def test_groups_add_up_to_one():
    chart = charts("Groups", LEARNING)["shares"]
    assert chart.kind == "stack"
    assert [sum(parts) for parts in zip(*(line.y for line in chart.series), strict=True)] == [1.0, 1.0, 1.0]


def test_thinned_parts_of_a_whole_still_add_up_to_it():
    thinned = columns(
        **{
            "group/none_solved": (range(0, 1000, 7), [0.1, 0.3] * 71 + [0.1]),
            "group/mixed": (range(0, 1000, 5), [0.5, 0.9] * 100),
            "group/all_solved": (range(0, 1000, 9), [0.0, 0.2] * 56),
        }
    )
    drawn = charts("Groups", thinned)["shares"].series
    assert len(drawn) == 3
    assert [sum(parts) for parts in zip(*(line.y for line in drawn), strict=True)] == pytest.approx(
        [1.0] * len(drawn[0].x)
    )


def test_the_plane_of_a_thinned_run_pairs_stretches_of_steps():
    """Each curve keeps the steps of its own extremes: hardly any are common."""
    thinned = columns(
        **{
            "entropy/informative": (range(0, 10_000, 20), [0.5] * 500),
            "entropy/spurious": (range(7, 10_000, 20), [0.75] * 500),
        }
    )
    chart = charts("Exploration", thinned)["plane"]
    assert len(chart.plane.step) > 100
    assert set(chart.plane.x) == {0.5}
    assert set(chart.plane.y) == {0.75}
    assert "means over stretches" in chart.subtitle


def test_the_histogram_keeps_a_row_per_number_of_correct_rollouts():
    heatmap = charts("Groups", LEARNING)["histogram"].heatmap
    assert list(heatmap.x) == [1, 2]
    assert [list(counts) for counts in heatmap.z] == [[4, 0, 0, 0, 0, 0, 0], [2, 1, 0, 0, 1, 0, 0]]


def test_the_effective_batch_is_a_number_of_groups_beside_what_was_asked_for():
    learnt, asked = charts("Groups", LEARNING)["effective"].series
    assert (learnt.y, asked.y) == ([0.0, 2.0, 2.0], [4, 4, 4])
    thrown = {**LEARNING, "rollout/discarded_rollouts": {"step": [1, 2, 3], "value": [0, 12, 6]}}
    assert charts("Groups", thrown)["effective"].series[2].y == [0, 2, 1]  # groups of six


def test_coverage_is_shown_over_steps_and_over_k_at_the_chosen_steps():
    drawn = charts("Coverage", LEARNING)
    assert [line.label for line in drawn["coverage-held"].series] == ["k = 1", "k = 4"]
    before, now = drawn["curve-held"].series
    assert (before.label, list(before.x), list(before.y)) == ("step 0", [1, 4], [0.2, 0.5])
    assert (now.label, list(now.y)) == ("step 6", [0.6, 0.8])
    assert before.low is None  # an interval of one k only is none
    assert coverage.evaluated(LEARNING, SPEC) == [0, 3, 6]
    chosen = charts("Coverage", LEARNING, steps=[6, 3, 4])["curve-held"].series
    assert [line.label for line in chosen] == ["step 3", "step 6"]


def test_coverage_of_the_training_prompts_is_there_too():
    assert train_ks(SPEC) == [1, 2, 4, 6]
    spec = {"rollout": {"group_size": 4}}
    trained = columns(**{f"pass_at_k/train/{k}": ([1, 2], [0.1 * k, 0.2 * k]) for k in (1, 2, 4)})
    drawn = charts("Coverage", trained, spec)
    assert [line.label for line in drawn["coverage-training prompts"].series] == ["k = 1", "k = 2", "k = 4"]


PHASES = columns(
    **{
        "perf/step_seconds": ([1, 2], [1.0, 2.0]),
        "perf/rollout_seconds": ([1, 2], [0.5, 1.2]),
        "perf/reward_seconds": ([1, 2], [0.1, 0.2]),
        "perf/update_seconds": ([1, 2], [0.3, 0.5]),
    }
)


def test_the_phases_of_a_step_add_up_to_its_time():
    chart = charts("System", PHASES)["phases"]
    assert [part.label for part in chart.series] == ["rollout", "reward", "update", "rest"]
    assert [sum(values) for values in zip(*(part.y for part in chart.series), strict=True)] == pytest.approx([1.0, 2.0])
    assert chart.x_label == "step"  # nobody noted when they were done


def test_the_system_is_drawn_over_the_clock_with_gaps_where_the_run_was_away():
    timed = {**PHASES, "perf/finished_at": {"step": [1, 2], "value": [1000.04, 1060.0]}}
    periods = [Period("lost", 1000.04, 1050.0), Period("waiting", 1050.0, 1056.0), Period("starting", 1056.0, None)]
    drawn = charts("System", timed, periods=periods)
    chart = drawn["phases"]
    assert chart.x_label == "time"
    assert chart.series[0].x == [1000.0, 1030.0, 1060.0]
    assert chart.series[0].y == [0.5, None, 1.2]
    assert [(span.label, span.low, span.high) for span in chart.spans] == [
        ("worker lost", 1000.04, 1050.0),
        ("waits in the queue", 1050.0, 1056.0),
        ("starts", 1056.0, 1060.0),
    ]
    assert drawn["progress"].series[0].y == [1, None, 2]
    assert system.over_time(chart.series[0], {}, []).x == []
    between = {**timed, "perf/tokens_per_second": {"step": [1, 2], "value": [5.0, 6.0]}}
    between["perf/finished_at"] = {"step": [0, 2, 3], "value": [900.0, 1000.0, 1060.0]}
    assert charts("System", between)["tokens"].series[0].x == [950.0, 1000.0]
    waited = charts("System", timed, periods=[Period("waiting", 900.0, 999.0)])["tokens"]
    assert waited.series == []
    assert charts("System", timed, periods=[Period("waiting", 900.0, 999.0)])["phases"].series[0].x[0] == 900.0


@pytest.mark.parametrize("section", list(panels.SECTIONS))
def test_a_run_without_a_metric_yet_has_every_chart_and_says_that_it_is_empty(section):
    for chart in charts(section, {}).values():
        assert not chart.series
        assert not chart.heatmap.x
        assert chart.empty


@pytest.mark.parametrize("section", list(panels.SECTIONS))
def test_a_section_draws_from_the_keys_it_asks_for_and_no_others(section):
    """A chart whose key is not asked for would stay empty for ever."""

    class Asked(dict):
        def get(self, key, default=None):
            asked.add(key)
            return super().get(key, default)

    asked = set()
    keys = panels.SECTIONS[section].keys(SPEC)
    panels.SECTIONS[section].charts(Asked(LEARNING), Subject(SPEC))
    assert {key for key in asked if not key.endswith(("/low", "/high"))} <= set(keys)


def test_every_chart_that_an_alert_shades_exists_and_is_over_steps():
    names = {name: chart for section in panels.SECTIONS for name, chart in charts(section, LEARNING).items()}
    for kind in alerts.KINDS:
        for name in kind.charts:
            assert names[name].x_label == "step", (kind.code, name)


def test_zoom_is_shared_over_steps_and_over_time_apart_and_not_with_a_chart_over_k():
    drawn = charts("Coverage", LEARNING) | charts("Exploration", LEARNING) | charts("Groups", LEARNING)
    shared = {name: panels.finished(chart, smooth=0.5, sync="job_1").sync for name, chart in drawn.items()}
    assert (shared["entropy"], shared["curve-held"], shared["plane"]) == ("job_1", "", "")
    timed = panels.finished(replace(drawn["entropy"], x_label="time"), smooth=0.5, sync="job_1")
    assert timed.sync not in ("", "job_1")
    assert panels.finished(drawn["shares"], smooth=0.5, sync="job_1").smooth == 0.0


def test_a_family_of_curves_runs_from_grey_to_the_strongest_colour():
    many = {f"eval/held/pass_at_k/{k}": {"step": list(range(6)), "value": [0.1] * 6} for k in (1, 4)}
    chosen = charts("Coverage", many, steps=range(6))["curve-held"].series
    colors = [line.color for line in chosen]
    assert len(set(colors)) == 6
    assert all(one != other for one, other in pairwise(colors))
