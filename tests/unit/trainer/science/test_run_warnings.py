"""Each warning comes when its condition says, once per episode, and the same after a trip through a checkpoint."""

import json

import pytest

from trainer.run_warnings import Thresholds, WarningState, observe

HEALTHY = {
    "entropy/policy": 0.6,
    "group/mixed": 0.5,
    "group/effective": 0.5,
    "rollout/truncated_fraction": 0.1,
    "rollout/logprob_diff_mean": 1e-3,
    "reward/mean": 0.4,
    "reward/std": 0.49,
}


def run(steps: list[dict], restart: bool = False) -> dict[int, list[str]]:
    """Which codes are raised in which step (1 is the first); with `restart` the state goes through JSON each time."""
    state, raised = WarningState(), {}
    for step, changes in enumerate(steps, start=1):
        if restart:
            state = WarningState.from_dict(json.loads(json.dumps(state.to_dict())))
        state, warnings = observe(state, {**HEALTHY, **changes})
        assert all(warning.message for warning in warnings)
        if warnings:
            raised[step] = [warning.code for warning in warnings]
    return raised


def test_a_healthy_run_is_quiet() -> None:
    assert run([{}] * 200) == {}


COLLAPSED, EXPLODED = {"entropy/policy": 0.05}, {"entropy/policy": 2.0}
NO_GRADIENT = {"group/effective": 0.04, "group/mixed": 0.04}
TRUNCATED = {"rollout/truncated_fraction": 0.81}
MISMATCH = {"rollout/logprob_diff_mean": 0.25}
CONSTANT = {"reward/std": 0.0, "reward/mean": 1.0}


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize(
    ("code", "changes", "patience"),
    [
        ("entropy_collapse", COLLAPSED, 5),
        ("entropy_explosion", EXPLODED, 5),
        ("no_gradient", NO_GRADIENT, 20),
        ("mostly_truncated", TRUNCATED, 1),
        ("engine_mismatch", MISMATCH, 1),
        ("reward_constant", CONSTANT, 10),
    ],
)
class TestEpisodes:
    def test_once_after_its_patience(self, code: str, changes: dict, patience: int, restart: bool) -> None:
        assert run([{}] * 10 + [changes] * 60, restart) == {10 + patience: [code]}

    def test_one_step_less_is_nothing(self, code: str, changes: dict, patience: int, restart: bool) -> None:
        almost = [changes] * (patience - 1) + [{}]
        assert run([{}] * 10 + almost * 4, restart) == {}

    def test_again_after_a_recovery_and_not_after_a_flicker(
        self, code: str, changes: dict, patience: int, restart: bool
    ) -> None:
        steps = (
            [{}] * 10 + [changes] * patience + [{}] * 4 + [changes] * (patience + 3) + [{}] * 5 + [changes] * patience
        )
        assert run(steps, restart) == {10 + patience: [code], len(steps): [code]}

    def test_an_undefined_metric_neither_counts_nor_interrupts(
        self, code: str, changes: dict, patience: int, restart: bool
    ) -> None:
        unknown = dict.fromkeys(HEALTHY)
        steps = [{}] * 10 + [unknown, changes] * patience
        assert run(steps, restart) == {10 + 2 * patience: [code]}


def test_collapse_from_the_very_beginning() -> None:
    assert run([{"entropy/policy": 0.001}] * 10) == {5: ["entropy_collapse"]}


def test_small_entropies_may_multiply() -> None:
    assert run([{"entropy/policy": 0.05}] * 5 + [{"entropy/policy": 0.3}] * 30) == {}


def test_kept_uniform_groups_do_give_a_gradient() -> None:
    assert run([{"group/mixed": 0.0, "group/effective": 1.0}] * 40) == {}
    without = {key: value for key, value in HEALTHY.items() if key != "group/effective"} | {"group/mixed": 0.0}
    state, codes = WarningState(), []
    for _ in range(20):
        state, warnings = observe(state, without)
        codes += [warning.code for warning in warnings]
    assert codes == ["no_gradient"]


def test_rewards_that_differ_between_steps_are_not_constant() -> None:
    steps = [{"reward/std": 0.0, "reward/mean": float(step % 2)} for step in range(40)]
    assert run(steps) == {}


@pytest.mark.parametrize("restart", [False, True])
def test_a_gradient_far_over_its_usual_norm(restart: bool) -> None:
    usual = [{"policy/grad_norm": 0.5}] * 10
    assert run([*usual, {"policy/grad_norm": 4.1}], restart) == {11: ["gradient_spike"]}
    assert run([*usual, {"policy/grad_norm": 4.0}], restart) == {}
    assert run([*usual[1:], {"policy/grad_norm": 4.1}], restart) == {}, "too few to know what is usual"
    # What was usual long ago is not: the norms of the last 50 steps count.
    assert run([*usual, *[{"policy/grad_norm": 100.0}] * 60], restart) == {11: ["gradient_spike"]}


def test_a_checkpoint_from_before_gradients_were_looked_at() -> None:
    old = WarningState().to_dict()
    del old["norms"]
    assert WarningState.from_dict(old) == WarningState()


def test_several_at_once() -> None:
    assert run([{}] * 5 + [TRUNCATED | MISMATCH]) == {6: ["mostly_truncated", "engine_mismatch"]}


def test_thresholds_are_the_callers_choice() -> None:
    _, warnings = observe(WarningState(), HEALTHY, Thresholds(truncated_fraction=0.05))
    assert [warning.code for warning in warnings] == ["mostly_truncated"]


def test_no_metrics_at_all() -> None:
    assert observe(WarningState(), {})[1] == []


def test_observe_leaves_its_state_alone() -> None:
    state, _ = observe(WarningState(), HEALTHY)
    before = json.dumps(state.to_dict())
    observe(state, {**HEALTHY, **TRUNCATED})
    assert json.dumps(state.to_dict()) == before
