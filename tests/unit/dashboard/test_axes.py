"""Where a step lies on the axes that a comparison can be drawn over."""

import pytest

from dashboard import axes

SPEC = {"rollout": {"group_size": 8}}
COLUMNS = {
    "progress/tokens": {"step": [2, 4], "value": [100, 300]},
    "progress/prompts": {"step": [1, 4], "value": [16, 64]},
}
CLOCK = {"step": [100, 200], "wall_seconds": [60.0, 900.0], "trained_seconds": [50.0, 110.0]}


@pytest.mark.parametrize(
    ("axis", "step", "at"),
    [
        (axes.STEP, 7, 7.0),
        (axes.TOKENS, 0, 0.0),
        (axes.TOKENS, 1, 50.0),
        (axes.TOKENS, 3, 200.0),
        (axes.TOKENS, 5, 400.0),
        (axes.ROLLOUTS, 4, 512.0),
        (axes.TIME, 50, 30.0),
        (axes.TIME, 150, 480.0),
        (axes.GPU_SECONDS, 100, 200.0),
        (axes.GPU_SECONDS, 300, 680.0),
    ],
)
def test_a_step_lies_between_those_that_are_known_and_goes_on_at_the_last_pace(axis, step, at):
    assert axes.places(axis, COLUMNS, CLOCK, SPEC, 4)(step) == at


def test_a_run_on_a_cpu_counts_as_one_gpu_and_one_that_chooses_itself_too():
    assert [axes.places(axes.GPU_SECONDS, {}, CLOCK, SPEC, gpus)(100) for gpus in (0, None, 1)] == [50.0, 50.0, 50.0]


def test_without_the_metric_or_the_clock_no_place_is_known():
    assert axes.places(axes.TOKENS, {}, None, SPEC, 1)(3) is None
    assert axes.places(axes.TIME, COLUMNS, None, SPEC, 1)(3) is None


def test_one_known_step_tells_a_pace():
    columns = {"progress/tokens": {"step": [4], "value": [400]}}
    assert axes.places(axes.TOKENS, columns, None, SPEC, 1)(2) == 200.0


def test_times_are_told_in_a_unit_that_fits():
    assert axes.unit(axes.TIME, 100.0) == ("seconds since the start", 1.0)
    assert axes.unit(axes.TIME, 600.0) == ("minutes since the start", 60.0)
    assert axes.unit(axes.TIME, 86400.0) == ("hours since the start", 3600.0)
    assert axes.unit(axes.TOKENS, 1e9) == ("tokens", 1.0)
