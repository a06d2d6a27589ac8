"""What a trainer reports ends in the tables once, whatever is replayed, and a resumed run replaces what it repeats."""

import pytest

from store import checkpoints, job_history, jobs, leases
from store.errors import Invalid, NotFound
from store.status import JobStatus
from trainer.spec import events
from trainer.spec.events import Rollout


def started(resumed_from=0):
    return events.Started(
        time=1, resumed_from=resumed_from, steps=5, device="cpu", parameters=10, prompts=64, prompts_dropped=0
    )


def step(number, **metrics):
    return events.Step(time=1, step=number, metrics={"loss": number / 10, "perf/step_seconds": 2.0} | metrics)


def evaluation(number, value):
    return events.Eval(time=1, step=number, name="val", metrics={"eval/val/pass_at_k/1": value})


def checkpoint(number, score=None):
    return events.Checkpoint(
        time=1, step=number, path=f"checkpoints/{number}", manifest_sha256="0" * 64, bytes=7, score=score
    )


def rollouts(number, text="1+1=", samples=2):
    return events.Rollouts(
        time=1,
        step=number,
        rollouts=[
            Rollout(
                group=0, sample=sample, row=3, prompt=text, completion="2", answer="2", reward=1.0, correct=sample == 0,
                advantage=0.5, bonus=-0.25, tokens=1, truncated=False, entropy=None,
            )
            for sample in range(samples)
        ],
    )  # fmt: skip


@pytest.fixture
def record(database):
    """record(claim, batch, events..., lines=[])"""

    def write(claimed, batch, *happened, lines=()):
        with database.transaction() as session:
            leases.record(session, claimed.job_id, claimed.attempt, list(happened), list(lines), batch=batch)

    return write


@pytest.fixture
def history(database, identity):
    """history(name, job_id, *rest): what store.job_history answers."""

    def read(name, job_id, *rest, **named):
        with database.transaction() as session:
            return getattr(job_history, name)(session, identity, job_id, *rest, **named)

    return read


@pytest.fixture
def again(database, claim):
    """again(claim): the job given back and claimed by the next attempt."""

    def release(claimed):
        with database.transaction() as session:
            leases.release(session, claimed.job_id, claimed.attempt, crashed=False)
        return claim()

    return release


def test_a_batch_lands_in_every_table(record, running, history, job):
    log = events.Log(time=1, level="warning", code="mostly_truncated", message="too long", step=1, data={"share": 0.9})
    happened = [
        started(),
        evaluation(0, 0.1),
        step(1),
        rollouts(1),
        step(2),
        evaluation(2, 0.5),
        checkpoint(2, 0.5),
        log,
    ]
    record(running, 1, *happened, events.Done(time=2, step=5), lines=["first", "second"])
    row = job(running.job_id)
    assert (row.step, row.steps, row.seconds_per_step, row.batch) == (2, 5, 2.0, 1)
    assert row.status is JobStatus.RUNNING
    measured = {row.step: row.values for row in history("metrics", running.job_id)}
    assert measured == {
        0: {"eval/val/pass_at_k/1": 0.1},
        1: {"loss": 0.1, "perf/step_seconds": 2.0},
        2: {"loss": 0.2, "perf/step_seconds": 2.0, "eval/val/pass_at_k/1": 0.5},  # one row per step, merged
    }
    told = history("events_after", running.job_id, 0, 100)
    assert [event.type for event in told] == [
        "state", "state", "message", "eval", "step", "step", "eval", "checkpoint", "message", "message",
    ]  # fmt: skip
    assert [event.id for event in told] == sorted(event.id for event in told)
    assert (told[8].level, told[8].data["code"], told[8].data["data"]) == (
        "warning",
        "mostly_truncated",
        {"share": 0.9},
    )
    assert [log.line for log in history("logs_after", running.job_id, 0, 10)] == ["first", "second"]
    (stored,) = history("checkpoints", running.job_id)
    assert (stored.step, stored.score, stored.path) == (2, 0.5, f"jobs/{running.job_id}/attempts/1/checkpoints/2")
    assert history("rollout_steps", running.job_id) == [1]


def test_a_replayed_batch_changes_nothing(record, running, snapshot):
    record(running, 1, started(), step(1), lines=["line"])
    record(running, 2, step(2))
    before = snapshot(running.job_id)
    record(running, 2, step(2))
    record(running, 1, started(), step(1), lines=["line"])
    assert snapshot(running.job_id) == before
    record(running, 3, step(3))
    assert snapshot(running.job_id) != before


def test_values_of_a_later_event_win_and_undefined_is_not_absent(record, running, history):
    record(running, 1, started(), step(1, a=1, b=None))
    record(running, 2, step(1, a=2, **{"group/histogram": [1, 2]}))
    (row,) = history("metrics", running.job_id, ["a", "b", "c", "group/histogram"])
    assert row.values == {"a": 2, "b": None, "group/histogram": [1, 2]}


def test_metrics_of_a_range_of_steps(record, running, history):
    record(running, 1, started(), *(step(number) for number in range(1, 6)))
    assert [row.step for row in history("metrics", running.job_id, ["loss"], 2, 4)] == [2, 3, 4]
    assert [row.step for row in history("metrics", running.job_id, None, 4)] == [4, 5]


def test_a_resumed_run_supersedes_what_it_does_again(record, running, again, history, database, job):
    record(running, 1, started(), *(step(n) for n in range(1, 5)), *(rollouts(n) for n in range(1, 5)))
    record(running, 2, checkpoint(2), checkpoint(4))
    second = again(running)
    assert (second.attempt, second.resume.step) == (2, 4)
    record(second, 1, started(resumed_from=2))  # the newest checkpoint did not verify
    assert job(running.job_id).step == 2
    assert [row.step for row in history("metrics", running.job_id)] == [1, 2]
    assert history("rollout_steps", running.job_id) == [1, 2]
    assert [(row.step, row.superseded_at is None) for row in history("checkpoints", running.job_id)] == [
        (2, True),
        (4, False),
    ]
    with database.transaction() as session:
        assert [found.step for found in checkpoints.newest_first(session, running.job_id)] == [2]
        assert steps_of(checkpoints.prune(session, running.job_id, 2).marked) == [4]
    assert again(second).resume.step == 2


def test_the_same_steps_checkpoint_of_a_later_attempt_replaces_the_earlier(record, running, again, history):
    record(running, 1, started(), step(1), checkpoint(1))
    second = again(running)
    record(second, 1, started(), step(1), checkpoint(1))  # from the beginning, in one batch
    (row,) = history("checkpoints", running.job_id)
    assert (row.attempt, row.superseded_at, row.deleted_at) == (2, None, None)
    assert row.path == f"jobs/{running.job_id}/attempts/2/checkpoints/1"
    assert [row.attempt for row in history("metrics", running.job_id)] == [2]


def test_a_start_in_the_middle_of_a_batch_supersedes_what_came_before_it(record, running, history):
    record(running, 1, started(), step(1), step(2), checkpoint(2), started(resumed_from=1), step(2, redone=1))
    assert [row.values.get("redone") for row in history("metrics", running.job_id)] == [None, 1]
    assert [row.superseded_at is None for row in history("checkpoints", running.job_id)] == [False]


def test_every_attempt_numbers_its_batches_from_one(record, running, again, history):
    record(running, 1, started(), step(1))
    record(running, 2, step(2))
    record(again(running), 1, started())
    assert history("metrics", running.job_id) == []


def test_old_and_worse_checkpoints_may_go_and_stay_gone(database, queue_job, claim, record):
    queue_job(checkpoint={"every": 1, "keep_last": 2, "keep_best": "reward/mean"})
    claimed = claim()
    scores = {1: 0.3, 2: 0.9, 3: 0.5, 4: None, 5: 0.1}
    record(claimed, 1, started(), *(checkpoint(number, score) for number, score in scores.items()))
    with database.transaction() as session:
        pruned = checkpoints.prune(session, claimed.job_id, 1)
        assert (steps_of(pruned.marked), steps_of(pruned.kept)) == ([1, 3], [2, 4, 5])
        again = checkpoints.prune(session, claimed.job_id, 1)
        assert (steps_of(again.marked), steps_of(again.kept)) == ([], [2, 4, 5])
        assert [found.step for found in checkpoints.newest_first(session, claimed.job_id)] == [5, 4, 2]


def test_a_checkpoint_that_another_job_is_to_begin_with_stays_until_that_has_ended(
    database, identity, queue_job, claim, record
):
    queue_job(checkpoint={"every": 1, "keep_last": 1})
    claimed = claim()
    record(claimed, 1, started(), checkpoint(1), checkpoint(2))
    user = queue_job(model={"id": f"job/{claimed.job_id}@1"})
    with database.transaction() as session:
        assert steps_of(checkpoints.prune(session, claimed.job_id, 1).kept) == [1, 2]
        jobs.request_cancel(session, identity, user)
        assert steps_of(checkpoints.prune(session, claimed.job_id, 1).marked) == [1]


def steps_of(paths):
    return sorted(int(path.rpartition("/")[2]) for path in paths)


def test_text_that_postgres_cannot_hold_is_shown_and_kept_out(record, running, history):
    log = events.Log(time=1, level="info", code="x", message="a\0b", data={"k\0": ["\0"]})
    record(running, 1, started(), rollouts(1, text="pro\0mpt", samples=1), log, lines=["li\0ne", "\ud800"])
    assert history("rollouts", running.job_id)[0].prompt == "pro\ufffdmpt"
    assert [log.line for log in history("logs_after", running.job_id, 0, 10)] == ["li\ufffdne", "\ufffd"]
    told = history("events_after", running.job_id, 0, 100)[-1]
    assert told.message == "a\ufffdb"
    assert told.data["data"] == {"k\ufffd": ["\ufffd"]}


def test_history_is_read_page_by_page(record, running, history):
    record(running, 1, started(), *(rollouts(n, samples=3) for n in (1, 2)), lines=[str(n) for n in range(7)])
    lines, after = [], 0
    while page := history("logs_after", running.job_id, after, 3):
        lines += [log.line for log in page]
        after = page[-1].id
    assert lines == [str(n) for n in range(7)]
    places, place = [], None
    while page := history("rollouts", running.job_id, after=place, limit=4):
        places += [(row.step, row.group_index, row.sample_index) for row in page]
        place = places[-1]
    assert places == [(step, 0, sample) for step in (1, 2) for sample in range(3)]
    assert [row.correct for row in history("rollouts", running.job_id, step=2, correct=False)] == [False, False]


def test_a_model_may_be_a_jobs_checkpoint(database, identity, record, running, make_spec, dataset, make_key):
    record(running, 1, started(), checkpoint(2))
    spec = make_spec(dataset.id, model={"id": f"job/{running.job_id}@2"})
    with database.transaction() as session:
        jobs.check_references(session, identity, spec)
        found = checkpoints.of_model(session, identity.team_id, running.job_id, 2)
        assert found.path.endswith("checkpoints/2")
        with pytest.raises(NotFound):
            checkpoints.of_model(session, make_key().identity.team_id, running.job_id, 2)
        checkpoints.forget(session, running.job_id, running.attempt, found.path)
        with pytest.raises(NotFound):
            checkpoints.of_model(session, identity.team_id, running.job_id, 2)
        with pytest.raises(Invalid) as caught:
            jobs.check_references(session, identity, spec)
    assert [error["loc"] for error in caught.value.errors] == [["body", "model", "id"]]
