import pytest

from dashboard import verdict
from dashboard.alerts import Alert

NOISE = [0.01, -0.02, 0.015, -0.005, 0.0]


def series(values, first=1):
    return {"step": list(range(first, first + len(values))), "value": list(values)}


def wavering(start, end, count=100):
    return series([start + (end - start) * at / (count - 1) + NOISE[at % 5] for at in range(count)])


def job(status="succeeded", step=150, **more):
    return {
        "status": status,
        "progress": {"step": step, "steps": 150, "seconds_per_step": 0.5, "eta_seconds": None},
        "started_at": "2026-01-01T10:00:00Z",
        "finished_at": "2026-01-01T10:02:05Z",
        "failure": None,
        "pause_reason": None,
        "queue": None,
        **more,
    }


def told(columns, alerts=(), benchmarks=(), **more):
    found = verdict.verdict(job(**more), columns, alerts, benchmarks)
    return {sentence.about: sentence for sentence in found}


GOOD = {
    "group/accuracy": wavering(0.24, 0.62),
    "entropy/policy": wavering(0.6, 0.3),
    "entropy/informative": wavering(0.52, 0.31),
    "entropy/spurious": wavering(0.6, 0.35),
    "group/effective": series([0.86] * 100),
    "group/none_solved": series([0.03] * 100),
    "group/all_solved": series([0.11] * 100),
    "eval/held/pass_at_k/1": {"step": [0, 50, 100], "value": [0.21, None, 0.6]},
}


def test_a_run_that_learns_is_told_in_numbers():
    found = told(GOOD, benchmarks=[("held", 1), ("never", 1)])
    assert found["Is it learning?"] == verdict.Sentence(
        "Is it learning?",
        "good",
        "Learning",
        "accuracy on the training prompts 25.7 % → 60.3 % over steps 1 to 100; held pass@1 21.0 % → 60.0 %",
    )
    assert found["Is it exploring?"].head == "Exploring less"
    assert found["Is it exploring?"].text.startswith(
        "entropy: informative 0.51 → 0.32, spurious 0.59 → 0.36 nats per token; "
    )
    assert found["Do its groups teach?"].tone == "good"
    assert (
        found["Do its groups teach?"].text
        == "14.0 % of the last steps' groups give no gradient (3.0 % none solved, 11.0 % all solved)"
    )
    assert found["Where does it stand?"].text == "all 150 steps are done, in 2 min 05 s"


@pytest.mark.parametrize(
    ("values", "head", "tone"),
    [
        (wavering(0.3, 0.3), "No clear change", "plain"),
        (wavering(0.6, 0.2), "Getting worse", "bad"),
        (series([0.1, 0.9]), "No clear change", "plain"),  # two steps are no trend
        (series([0.5, None, None]), "Too early to tell", "plain"),
    ],
)
def test_what_is_within_the_noise_is_not_called_a_change(values, head, tone):
    found = told({"group/accuracy": values})["Is it learning?"]
    assert (found.head, found.tone) == (head, tone)


def benchmark(*values):
    key = "eval/held/pass_at_k/1"
    parts = {"": 0.0, "/low": -0.03, "/high": 0.03}
    return {f"{key}{end}": {"step": [0, 100], "value": [value + by for value in values]} for end, by in parts.items()}


@pytest.mark.parametrize(
    ("training", "measured", "head"),
    [
        (wavering(0.3, 0.3), benchmark(0.25, 0.0), "Getting worse"),
        (wavering(0.3, 0.3), benchmark(0.25, 0.28), "No clear change"),
        (wavering(0.3, 0.6), benchmark(0.25, 0.28), "Learning"),
        (wavering(0.3, 0.6), benchmark(0.25, 0.1), "Not everywhere"),
        (series([]), benchmark(0.25, 0.5), "Too early to tell"),
    ],
)
def test_a_benchmark_counts_where_its_intervals_do_not_meet(training, measured, head):
    found = told({"group/accuracy": training, **measured}, benchmarks=[("held", 1)])["Is it learning?"]
    assert found.head == head


def test_a_reward_stands_in_where_there_is_no_accuracy():
    assert "mean reward 0.06" in told({"reward/mean": wavering(0.05, 0.4)})["Is it learning?"].text


def test_an_undefined_channel_is_said_to_be_so_and_never_0():
    found = told({**GOOD, "entropy/informative": series([None] * 100)})["Is it exploring?"]
    assert "informative undefined (no correct rollouts)" in found.text
    assert (found.tone, found.head) == ("bad", "Only what is wrong"), "an entropy of wrong answers alone is not steady"
    once = told({**GOOD, "entropy/informative": series([None, 0.4, None])})["Is it exploring?"]
    assert "informative undefined now (no correct rollouts; last 0.40 at step 2)," in once.text
    assert "informative 0.40," in told({"entropy/informative": series([None, 0.4])})["Is it exploring?"].text


def test_an_alert_of_the_entropy_decides_about_exploration():
    for code, head in (("entropy_collapse", "Collapsed"), ("entropy_explosion", "Exploded")):
        found = told(GOOD, [Alert(code, "", "", 3, 4, 4, told=True)])["Is it exploring?"]
        assert (found.head, found.tone) == (head, "bad")
    assert told({**GOOD, "entropy/policy": wavering(0.5, 0.5)})["Is it exploring?"].head == "Steady"
    assert told({**GOOD, "entropy/policy": wavering(0.5, 0.9)})["Is it exploring?"].head == "Exploring more"


def test_groups_without_a_gradient_are_a_warning_from_half_of_them_on():
    for share, head, tone in (
        (0.4, "Half wasted", "bad"),
        (0.1, "Mostly wasted", "bad"),
        (0.6, "Most groups teach", "plain"),
    ):
        found = told({"group/effective": series([share] * 5)})["Do its groups teach?"]
        assert (found.head, found.tone) == (head, tone)
    assert (
        told({"group/mixed": series([1.0])})["Do its groups teach?"].text
        == "0.0 % of the last steps' groups give no gradient"
    )
    assert told({})["Do its groups teach?"].head == "Not measured"


@pytest.mark.parametrize(
    ("status", "more", "text"),
    [
        (
            "failed",
            {"failure": {"kind": "user", "code": "loss_not_finite"}},
            "loss_not_finite (retrying gives the same)",
        ),
        ("failed", {"failure": {"kind": "infrastructure", "code": "lost"}}, "lost (the infrastructure, not the run)"),
        ("cancelled", {}, "somebody ended it after step 17 of 150, in 2 min 05 s"),
        ("paused", {}, "somebody paused it, after step 17 of 150"),
        ("paused", {"pause_reason": {"code": "disk_full", "message": ""}}, "the platform paused it: disk_full"),
        ("queued", {"queue": {"position": 2, "wait_reason": "slots taken"}}, "position 2, slots taken"),
        ("running", {}, "step 17 of 150, about 1 min 06 s left"),
    ],
)
def test_why_it_stopped_or_does_not_go_on(status, more, text):
    found = told(GOOD, status=status, step=17, **more)["Where does it stand?"]
    assert text in found.text


def test_a_run_without_a_step_tells_only_where_it_stands():
    assert list(told({}, status="queued", step=0)) == ["Where does it stand?"]
