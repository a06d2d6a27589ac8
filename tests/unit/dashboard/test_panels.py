import pytest

from dashboard import panels

SPEC = {
    "rollout": {"group_size": 6, "max_new_tokens": 8},
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
        "group/histogram": ([1, 2], [[4, 0, 0, 0, 0, 0, 0], [2, 1, 0, 0, 1, 0, 0]]),
        "eval/held/pass_at_k/1": ([0, 3], [0.2, 0.4]),
        "eval/held/pass_at_k/4": ([0, 3], [0.5, 0.7]),
        "eval/held/pass_at_k/1/low": ([0, 3], [0.1, 0.3]),
        "eval/held/pass_at_k/1/high": ([0, 3], [0.3, 0.5]),
    }
)


def charts(section, found, spec=SPEC):
    return panels.SECTIONS[section].charts(found, spec)


def test_both_entropies_are_on_one_chart_with_gaps_and_counts():
    chart = charts("Learning", LEARNING)["entropy"]
    assert [line.label for line in chart.series] == ["informative (correct)", "spurious (incorrect)", "all tokens"]
    informative = chart.series[0]
    assert informative.y == [None, 0.8, 0.7]
    assert informative.notes == ["0 tokens", "30 tokens", "12k tokens"]


def test_accuracy_shows_training_and_every_benchmark_at_its_smallest_k():
    chart = charts("Learning", LEARNING)["accuracy"]
    assert [line.label for line in chart.series] == ["training prompts", "held pass@1"]
    assert chart.series[1].low == [0.1, 0.3]


def test_a_reward_of_its_own_is_drawn_beside_the_accuracy():
    graded = {**LEARNING, "reward/mean": {"step": [1, 2, 3], "value": [0.1, 0.3, 0.5]}}
    assert "mean reward" in [line.label for line in charts("Learning", graded)["accuracy"].series]


def test_groups_add_up_to_one():
    chart = charts("Learning", LEARNING)["shares"]
    assert chart.kind == "stack"
    assert [sum(parts) for parts in zip(*(line.y for line in chart.series), strict=True)] == [1.0, 1.0, 1.0]


def test_the_histogram_keeps_a_row_per_number_of_correct_rollouts():
    heatmap = charts("Learning", LEARNING)["histogram"].heatmap
    assert list(heatmap.x) == [1, 2]
    assert [list(counts) for counts in heatmap.z] == [[4, 0, 0, 0, 0, 0, 0], [2, 1, 0, 0, 1, 0, 0]]


def test_coverage_is_shown_over_steps_and_over_k():
    drawn = charts("Learning", LEARNING)
    assert [line.label for line in drawn["coverage-held"].series] == ["k = 1", "k = 4"]
    before, now = drawn["curve-held"].series
    assert (before.label, list(before.x), list(before.y)) == ("step 0", [1, 4], [0.2, 0.5])
    assert (now.label, list(now.y)) == ("step 3", [0.4, 0.7])


def test_without_a_benchmark_coverage_is_that_of_the_training_prompts():
    assert panels.train_ks(SPEC) == [1, 2, 4, 6]
    spec = {"rollout": {"group_size": 4}}
    trained = columns(**{f"pass_at_k/train/{k}": ([1, 2], [0.1 * k, 0.2 * k]) for k in (1, 2, 4)})
    drawn = charts("Learning", trained, spec)
    assert [line.label for line in drawn["coverage-training prompts"].series] == ["k = 1", "k = 2", "k = 4"]


def test_the_phases_of_a_step_add_up_to_its_time():
    found = columns(
        **{
            "perf/step_seconds": ([1, 2], [1.0, 2.0]),
            "perf/rollout_seconds": ([1, 2], [0.5, 1.2]),
            "perf/reward_seconds": ([1, 2], [0.1, 0.2]),
            "perf/update_seconds": ([1, 2], [0.3, 0.5]),
        }
    )
    parts = charts("Throughput", found)["phases"].series
    assert [part.label for part in parts] == ["rollout", "reward", "update", "rest"]
    assert [sum(values) for values in zip(*(part.y for part in parts), strict=True)] == pytest.approx([1.0, 2.0])


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
    panels.SECTIONS[section].charts(Asked(LEARNING), SPEC)
    assert {key for key in asked if not key.endswith(("/low", "/high"))} <= set(keys)


def test_zoom_is_shared_over_steps_and_not_with_a_chart_over_k():
    drawn = charts("Learning", LEARNING)
    assert panels.finished(drawn["entropy"], smooth=0.5, sync="job_1").sync == "job_1"
    assert panels.finished(drawn["curve-held"], smooth=0.5, sync="job_1").sync == ""
    assert panels.finished(drawn["shares"], smooth=0.5, sync="job_1").smooth == 0.0
