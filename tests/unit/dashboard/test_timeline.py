from datetime import UTC, datetime

from dashboard.timeline import Period, periods


def event(seconds, status=None, attempt=1, **data):
    at = datetime.fromtimestamp(seconds, UTC).isoformat()
    kind = "state" if status else "message"
    return {"at": at, "type": kind, "attempt": attempt, "data": {"status": status, **data} if status else data}


RAN = [event(100, "queued", 0), event(110, "running"), event(113, resumed_from=0)]


def test_a_run_waits_and_starts_before_it_trains():
    assert periods([*RAN, event(200, "succeeded")]) == [
        Period("waiting", 100, 110, "waits for a worker"),
        Period("starting", 110, 113, "attempt 1 starts"),
    ]


def test_training_starts_when_the_trainer_says_so_and_not_when_that_was_stored():
    found = periods([*RAN[:2], event(119, resumed_from=0, time=112.5)])
    assert found[-1] == Period("starting", 110, 112.5, "attempt 1 starts")


def test_a_lost_attempt_is_lost_from_the_last_step_that_counts():
    lost = event(180, "queued", crashed=True)
    again = [lost, event(181, "running", 2), event(185, attempt=2, resumed_from=20)]
    found = periods([*RAN, *again], [114.0, 150.0, 190.0])
    assert [(each.kind, each.start, each.end) for each in found[2:]] == [
        ("lost", 150.0, 180),
        ("waiting", 180, 181),
        ("starting", 181, 185),
    ]
    # Without the moments of its steps, from the last thing that was heard of it.
    assert periods([*RAN, *again])[2].start == 113


def test_a_pause_lasts_until_it_is_resumed_and_what_goes_on_has_no_end():
    paused = [*RAN, event(150, "pausing"), event(152, "paused")]
    assert periods(paused)[-1] == Period("paused", 152, None, "paused")
    resumed = periods([*paused, event(300, "queued")])
    assert [(each.kind, each.start, each.end) for each in resumed[-2:]] == [
        ("paused", 152, 300),
        ("waiting", 300, None),
    ]


def test_an_attempt_that_ends_before_it_trains_is_no_training():
    found = periods([event(100, "queued", 0), event(110, "running"), event(130, "failed")])
    assert found[-1] == Period("starting", 110, 130, "attempt 1 starts")


def test_moments_too_short_to_see_are_left_out():
    assert [
        each.kind for each in periods([event(100, "queued"), event(100.1, "running"), event(104, resumed_from=0)])
    ] == ["starting"]
