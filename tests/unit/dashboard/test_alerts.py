import pytest

from dashboard import alerts
from dashboard.chart import Chart
from trainer.run_warnings import Thresholds, WarningState, observe


def columns(key, values, first=1):
    return {key: {"step": list(range(first, first + len(values))), "value": list(values)}}


def warning(code, step, message="it went wrong", **more):
    return {"type": "message", "level": "warning", "message": message, "data": {"code": code, "step": step, **more}}


def started(resumed_from):
    return {"type": "message", "level": "info", "message": "training starts", "data": {"resumed_from": resumed_from}}


def told(found):
    return [(alert.code, alert.first, alert.last, alert.step, alert.told) for alert in found]


def test_the_thresholds_are_the_trainers():
    limits = Thresholds()
    patience = {kind.code: kind.patience for kind in alerts.KINDS}
    assert limits.baseline_steps == alerts.BASELINE_STEPS
    assert (limits.collapse_fraction, limits.collapse_nats) == (alerts.COLLAPSE_FRACTION, alerts.COLLAPSE_NATS)
    assert (limits.explosion_factor, limits.explosion_nats) == (alerts.EXPLOSION_FACTOR, alerts.EXPLOSION_NATS)
    assert limits.effective_fraction == alerts.EFFECTIVE_FRACTION
    assert limits.truncated_fraction == alerts.TRUNCATED_FRACTION
    assert limits.mismatch_nats == alerts.MISMATCH_NATS
    assert limits.recovery_steps == alerts.RECOVERY_STEPS
    assert limits.spike_factor == alerts.SPIKE_FACTOR
    assert (limits.spike_median_of, limits.spike_least) == (alerts.SPIKE_MEDIAN_OF, alerts.SPIKE_LEAST)
    assert patience["entropy_collapse"] == patience["entropy_explosion"] == limits.entropy_steps
    assert (patience["no_gradient"], patience["reward_constant"]) == (limits.no_gradient_steps, limits.reward_steps)


CURVES = {
    "entropy_collapse": ("entropy/policy", [1.0] * 8 + [0.05] * 9 + [0.8] * 7),
    "entropy_explosion": ("entropy/policy", [0.5] * 6 + [2.0] * 6 + [0.5] * 6),
    "no_gradient": ("group/effective", [0.5] * 3 + [0.0] * 25 + [0.5] * 6),
    "mostly_truncated": ("rollout/truncated_fraction", [0.1, 0.9, 0.1, 0.9, None, 0.1, 0.1, 0.1, 0.1, 0.1, 0.95]),
    "engine_mismatch": ("rollout/logprob_diff_mean", [0.001, 0.2, 0.2, 0.001]),
    "reward_constant": ("reward/std", [0.5, 0.5] + [0.0] * 12),
    "gradient_spike": ("policy/grad_norm", [0.3, 0.4] * 4 + [9.0, 0.3, 9.0, None, 0.4] + [0.3] * 60 + [2.5, 2.3, 2.6]),
}


@pytest.mark.parametrize("code", list(CURVES))
def test_an_episode_read_off_the_metrics_is_raised_at_the_step_at_which_the_trainer_would_warn(code):
    key, values = CURVES[code]
    state, warned = WarningState(), []
    for step, value in enumerate(values, start=1):
        metrics = {key: value, "reward/mean": 0.0} if key == "reward/std" else {key: value}
        state, now = observe(state, metrics)
        warned += [step for each in now if each.code == code]
    found = [alert for alert in alerts.found(columns(key, values)) if alert.code == code]
    assert [alert.step for alert in found] == warned
    assert not any(alert.told for alert in found)


def test_a_warning_of_the_trainer_is_the_truth_and_the_metrics_tell_how_long():
    key, values = CURVES["entropy_collapse"]
    found = alerts.found(columns(key, values), [started(0), warning("entropy_collapse", 13, "its own words")])
    assert told(found) == [("entropy_collapse", 9, 17, 13, True)]
    assert found[0].message == "its own words"
    assert found[0].where == "steps 9 to 17"


def test_a_warning_that_the_metrics_do_not_show_stands_for_its_step():
    found = alerts.found({}, [warning("engine_mismatch", 7), warning("verifier_failed", 3), warning("odd", None)])
    assert told(found) == [
        ("odd", None, None, None, True),
        ("verifier_failed", 3, 3, 3, True),
        ("engine_mismatch", 7, 7, 7, True),
    ]
    assert [alert.title for alert in found] == ["Odd", "Verifier failed", "Engine mismatch"]
    assert found[0].where == ""


def test_what_was_said_of_steps_that_were_done_again_is_void():
    events = [started(0), warning("engine_mismatch", 5), warning("engine_mismatch", 30), started(20)]
    assert told(alerts.found({}, events)) == [("engine_mismatch", 5, 5, 5, True)]


def test_errors_states_and_info_are_no_alerts():
    events = [
        {"type": "state", "level": "warning", "message": "paused", "data": {"status": "paused", "code": "x"}},
        {"type": "message", "level": "info", "message": "hello", "data": {"code": "hello", "step": 1}},
        {"type": "message", "level": "warning", "message": "nameless", "data": {"step": 1}},
    ]
    assert alerts.found({}, events) == []


def test_an_undefined_step_neither_counts_nor_interrupts_and_a_short_calm_does_not_end_an_episode():
    assert alerts.episodes([(1, True), (2, True), (4, True)], 4) == [(1, 4, 4)]
    calm = [(step, step not in (6, 7)) for step in range(1, 13)]
    assert alerts.episodes(calm, 5) == [(1, 12, 5)]
    assert alerts.episodes([(1, True), (2, False), (9, True)], 1) == [(1, 1, 1), (9, 9, 9)]
    assert alerts.episodes([(1, True), (2, True), (3, False)], 3) == []


def test_the_mixed_groups_tell_where_a_trainer_did_not_say_which_taught():
    found = alerts.found(columns("group/mixed", [0.0] * 20))
    assert told(found) == [("no_gradient", 1, 20, 20, False)]


def test_a_gradient_spike_is_against_the_usual_and_needs_one_to_be_against():
    spiky = [1.0, 1.2, 0.9] * 4 + [9.0] + [1.0] * 6
    assert told(alerts.found(columns("policy/grad_norm", spiky))) == [("gradient_spike", 13, 13, 13, False)]
    assert alerts.found(columns("policy/grad_norm", [1.0, 50.0, 1.0])) == []


def test_charts_over_steps_are_shaded_where_an_alert_concerns_them():
    found = alerts.found(*[columns("rollout/truncated_fraction", [0.1, 0.9, 0.9])])
    charts = {"truncated": Chart("Truncated"), "loss": Chart("Loss"), "accuracy": Chart("Over k", x_label="k")}
    shaded = alerts.shade(charts, found, lambda step: f"at {step}")
    (span,) = shaded["truncated"].spans
    assert (span.low, span.high, span.label, span.step, span.href) == (2, 3, "Mostly truncated", 2, "at 2")
    assert not shaded["loss"].spans
    assert not shaded["accuracy"].spans
