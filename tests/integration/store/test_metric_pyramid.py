"""The pyramid in Postgres against the rows that it is made of: whatever came in whatever order, they say the same."""

import itertools
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, select, text, update

from store import job_history, leases, successors
from store.errors import NotFound
from store.metrics import changes, pyramid, reading
from store.metrics.curve import Curve, columns, shown, thin
from store.metrics.levels import LEVELS, SPAN, width
from store.metrics.selection import Selection
from store.models import Job, JobMetric, JobMetricChunk, JobMetricSupersession
from store.status import JobStatus
from trainer.spec import events

ALL = Selection()


def started(resumed_from=0):
    return events.Started(
        time=0, resumed_from=resumed_from, steps=10**6, device="cpu", parameters=1, prompts=1, prompts_dropped=0
    )


def step(number, **metrics):
    return events.Step(time=0, step=number, metrics=metrics)


@pytest.fixture
def record(database):
    """record(claim, batch, events...)"""

    def write(claimed, batch, *happened):
        with database.transaction() as session:
            leases.record(session, claimed.job_id, claimed.attempt, list(happened), [], batch=batch)

    return write


@pytest.fixture
def read(database, identity):
    """read(job_id, max_points=10**6, from_step=None, to_step=None, keys=ALL) -> its curves."""

    def curves(job_id, max_points=10**6, from_step=None, to_step=None, keys=ALL):
        with database.transaction(snapshot=True) as session:
            (head,) = reading.heads(session, identity, [job_id])
            return reading.read(session, [head], keys, max_points, from_step, to_step)[job_id]

    return curves


@pytest.fixture
def rows(database, identity):
    """rows(job_id, from_step=None, to_step=None) -> the curves that the rows of job_metrics hold."""

    def curves(job_id, from_step=None, to_step=None):
        with database.transaction() as session:
            found = job_history.metrics(session, identity, job_id, None, from_step, to_step)
        return columns((row.step, row.values) for row in found)

    return curves


@pytest.fixture
def sealed(database):
    def of(job_id):
        with database.transaction() as session:
            return session.scalars(select(Job.metrics_sealed).where(Job.id == job_id)).one()

    return of


@pytest.fixture
def chunks(database):
    """chunks(job_id) -> {(level, key, chunk): (curve, count)} as they are stored."""

    def stored(job_id):
        with database.transaction() as session:
            found = session.scalars(select(JobMetricChunk).where(JobMetricChunk.job_id == job_id)).all()
        return {
            (row.level, row.key, row.chunk): (
                pyramid.points(row.chunk, row.steps, row.numbers, row.others),
                row.count,
            )
            for row in found
        }

    return stored


def expected_chunks(curves, sealed):
    """What the pyramid must hold of these rows: worked out from them alone, each level from the values themselves."""
    wanted = {}
    for key, curve in curves.items():
        for level in LEVELS:
            for number in range(sealed // width(level)):
                part = curve.between(number * width(level), (number + 1) * width(level))
                if part.step:
                    wanted[level, key, number] = (thin(part, level), len(part))
    return wanted


# One stretch of a run: how many steps, what they hold, how many batches they come in, and whether the later ones come
# first (no trainer does that); then perhaps an evaluation of an earlier step, or a death, after which another attempt
# goes on from an earlier step.
STRETCHES = st.lists(
    st.tuples(
        st.integers(1, 3 * SPAN),
        st.sampled_from(["floats", "whole", "nulls", "sparse", "lists", "huge"]),
        st.integers(1, 4),
        st.booleans(),
        st.none() | st.floats(0, 1),
        st.none() | st.floats(0, 1),
    ),
    min_size=1,
    max_size=6,
)


def said_at(number, kind, attempt):
    noise = math.sin(number * 12.9898 + attempt) * 43758.5453 % 1
    metrics = {"loss": noise, "kl": None if number % 7 == 3 else noise * 1e-9}
    match kind:
        case "whole":
            metrics |= {"tokens": number * 3, "loss": 1}
        case "nulls":
            metrics |= {"kl": None}
        case "sparse":
            metrics = {"eval/a": noise} if number % 50 == 0 else {"loss": noise}
        case "lists":
            metrics |= {"group/histogram": [number % 5, 2]}
        case "huge":
            metrics |= {"bytes": 2**63 + number}
    return metrics


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(stretches=STRETCHES, max_points=st.integers(2, 400), share=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_it_says_what_the_rows_say(
    stretches, max_points, share, database, queue_job, claim, record, read, rows, sealed, chunks
):
    job_id = queue_job(resources={"max_attempts": 100})
    claimed = claim()
    assert claimed.job_id == job_id
    batches, last = itertools.count(1), 0
    record(claimed, next(batches), started())
    for steps, kind, pieces, backwards, late, back in stretches:
        said = [step(n, **said_at(n, kind, claimed.attempt)) for n in range(last + 1, last + steps + 1)]
        last += steps
        size = -(-len(said) // pieces)
        for begin in sorted(range(0, len(said), size), reverse=backwards):
            record(claimed, next(batches), *said[begin : begin + size])
        if late is not None:
            record(
                claimed, next(batches), events.Eval(time=0, step=int(late * last), name="b", metrics={"eval/b": late})
            )
        if back is not None:
            last = int(back * last)
            with database.transaction() as session:
                leases.release(session, job_id, claimed.attempt, crashed=False, evidence=[])
            claimed, batches = claim(), itertools.count(1)
            record(claimed, next(batches), started(resumed_from=last))
        truth = rows(job_id)
        assert chunks(job_id) == expected_chunks(truth, sealed(job_id))
    assert sealed(job_id) == max([s for curve in truth.values() for s in curve.step], default=0) // SPAN * SPAN
    assert read(job_id) == dict(sorted(truth.items()))
    assert read(job_id, max_points) == {key: shown(truth[key], max_points) for key in sorted(truth)}
    low, high = sorted(int(each * last) for each in share)
    ranged = rows(job_id, low, high)
    assert read(job_id, max_points, low, high) == {key: shown(ranged[key], max_points) for key in sorted(ranged)}
    with database.transaction() as session:
        leases.finish(session, job_id, claimed.attempt, JobStatus.SUCCEEDED)


def test_appended_data_never_changes_old_complete_chunks(running, record, chunks):
    record(running, 1, started(), *(step(n, loss=math.sin(n)) for n in range(1, 3 * SPAN)))
    before = chunks(running.job_id)
    assert len(before) == 2
    record(running, 2, *(step(n, loss=math.sin(n)) for n in range(3 * SPAN, 20 * SPAN)))
    after = chunks(running.job_id)
    assert {place: after[place] for place in before} == before
    assert {level for level, _, _ in after} == {0, 4}


def test_values_keep_their_kind_in_the_chunks(running, record, read, sealed):
    """A whole number stays one however large, a list a list, an undefined value is not a missing one."""
    record(running, 1, started(), *(step(n, a=1.0, b=2**70 + n, c=[n], d=None) for n in range(1, SPAN + 1)))
    record(running, 2, *(step(n, a=1) for n in range(SPAN + 1, 2 * SPAN + 1)))
    assert sealed(running.job_id) == 2 * SPAN
    found = read(running.job_id)
    assert [type(value) for value in found["a"].value] == [float] * SPAN + [int] * SPAN
    assert found["b"].value == [2**70 + n for n in range(1, SPAN + 1)]
    assert found["c"].value == [[n] for n in range(1, SPAN + 1)]
    assert found["d"] == Curve(list(range(1, SPAN + 1)), [None] * SPAN)


def test_keys_are_picked_by_name_and_by_beginning(running, record, read):
    said = [step(n, **{"ent/pos": 0.5, "ent/neg": 0.25, "loss": 1.0}) for n in range(1, 2 * SPAN)]
    record(running, 1, started(), *said)
    steps = list(range(1, 2 * SPAN))
    picked = read(running.job_id, keys=Selection.parse("ent/*, loss , never"))
    assert list(picked) == ["ent/neg", "ent/pos", "loss", "never"]
    assert picked["ent/pos"] == Curve(steps, [0.5] * len(steps))
    assert picked["never"] == Curve()
    assert list(read(running.job_id, keys=Selection.parse("ent/*"))) == ["ent/neg", "ent/pos"]
    many = [f"key{n}" for n in range(20)]
    assert read(running.job_id, keys=Selection(exact=["loss", *many]))["loss"] == Curve(steps, [1.0] * len(steps))


def test_a_key_with_few_points_or_a_late_beginning_is_seen_in_full_detail(running, record, read):
    """What is thinned is the curve, not the run: a benchmark measured now and then keeps every point."""
    for batch, begin in enumerate(range(0, 40 * SPAN, 4 * SPAN), start=1):
        said = [
            step(n, loss=math.sin(n), **({"eval/a": math.cos(n)} if n % 100 in (0, 1, 2, 3) else {}), **late(n))
            for n in range(begin + 1, begin + 4 * SPAN + 1)
        ]
        record(running, batch, *said)
    found = read(running.job_id, 250)
    assert found["eval/a"].step == [n for n in range(1, 40 * SPAN + 1) if n % 100 in (0, 1, 2, 3)]
    assert len(found["late"]) == 240
    assert 125 <= len(found["loss"]) <= 250


def late(n):
    return {"late": float(n)} if n > 40 * SPAN - 240 else {}


def test_another_attempt_takes_back_what_came_after_its_checkpoint(
    running, record, read, database, again, changed_since
):
    record(running, 1, started(), *(step(n, loss=1.0) for n in range(1, 5 * SPAN)))
    seen = changed_since(running.job_id, 0)[1]
    second = again(running)
    record(second, 1, started(resumed_from=200))
    changed, cursor = changed_since(running.job_id, seen)
    assert (changed.drop_after, changed.curves) == (200, {})
    record(second, 2, step(201, loss=2.0))
    changed, last = changed_since(running.job_id, cursor)
    assert (changed.drop_after, changed.curves) == (None, {"loss": Curve([201], [2.0])})
    changed, _ = changed_since(running.job_id, seen)
    assert (changed.drop_after, changed.curves) == (200, {"loss": Curve([201], [2.0])})
    assert changed_since(running.job_id, last)[0] == changes.Changed(None, {})
    assert read(running.job_id)["loss"] == Curve(list(range(1, 202)), [1.0] * 200 + [2.0])
    # A resume that takes nothing back says nothing.
    third = again(second)
    record(third, 1, started(resumed_from=201))
    assert changed_since(running.job_id, last)[0] == changes.Changed(None, {})


def test_what_is_new_is_told_with_late_values_and_not_beyond_the_bound(running, record, changed_since):
    record(running, 1, started(), step(1, loss=1.0), step(2, loss=2.0))
    _, seen = changed_since(running.job_id, 0)
    record(running, 2, events.Eval(time=0, step=1, name="a", metrics={"eval/a": 0.5}))
    changed, _ = changed_since(running.job_id, seen)
    assert changed.curves == {"eval/a": Curve([1], [0.5]), "loss": Curve([1], [1.0])}
    record(running, 3, *(step(n, loss=0.0) for n in range(3, 13)))
    assert changed_since(running.job_id, seen, most_rows=10)[0] is None
    assert changed_since(running.job_id, seen, most_rows=11)[0] is not None


@pytest.fixture
def changed_since(database, identity):
    """changed_since(job_id, revision, most_rows=10**6) -> (what changed, the revision up to which)."""

    def tell(job_id, revision, most_rows=10**6):
        with database.transaction(snapshot=True) as session:
            (head,) = reading.heads(session, identity, [job_id])
            return changes.since(session, head, revision, ALL, most_rows), head.revision

    return tell


@pytest.fixture
def again(database, claim):
    """again(claim): the job is released and claimed anew."""

    def claim_again(claimed):
        with database.transaction() as session:
            leases.release(session, claimed.job_id, claimed.attempt, crashed=False, evidence=[])
        return claim()

    return claim_again


def test_a_change_is_streamed_in_the_order_of_revisions(running, record, database, again):
    record(running, 1, started(), step(1, loss=1.0), step(2, loss=2.0))
    record(again(running), 1, started(resumed_from=1), step(2, loss=3.0))
    with database.transaction() as session:
        told = changes.after(session, running.job_id, 0, 10)
        assert [type(each).__name__ for each in told] == ["Row", "TakenBack", "Row"]
        assert [getattr(each, "step", None) or each.kept for each in told] == [1, 1, 2]
        assert changes.after(session, running.job_id, told[0].revision, 1) == [told[1]]
        assert changes.after(session, running.job_id, told[-1].revision, 10) == []


def test_a_retry_has_the_pyramid_of_what_it_takes_over(
    database, identity, queue_job, claim, record, read, chunks, sealed
):
    queue_job()
    first = claim()
    last = 20 * SPAN + 10
    path = {"path": "checkpoints/1", "manifest_sha256": "0" * 64, "bytes": 1, "score": None}
    record(first, 1, started(), *(step(n, loss=math.sin(n)) for n in range(1, 21 * SPAN)))
    record(first, 2, events.Checkpoint(time=0, step=last, **path), step(21 * SPAN, loss=0.0))
    with database.transaction() as session:
        failure = {"kind": "user", "code": "x", "message": "x", "evidence": []}
        leases.finish(session, first.job_id, 1, JobStatus.FAILED, failure)
        retried = successors.retry(session, identity, first.job_id)[0].id
    whole = read(first.job_id)["loss"].between(0, last + 1)
    assert sealed(retried) == 20 * SPAN
    assert chunks(retried) == expected_chunks({"loss": whole}, 20 * SPAN)
    assert read(retried) == {"loss": whole}


def test_rows_of_an_older_version_are_read_as_they_are_and_caught_up_with(
    running, record, database, read, chunks, sealed
):
    record(running, 1, started(), *(step(n, loss=math.sin(n)) for n in range(1, 100 * SPAN)))
    built, shown_before = chunks(running.job_id), read(running.job_id, 300)
    with database.transaction() as session:
        session.execute(text("TRUNCATE job_metric_chunks"))
        session.execute(update(Job).values(metrics_sealed=0))
    assert read(running.job_id, 300) == shown_before
    assert pyramid.catch_up(database) == 1
    assert sealed(running.job_id) == 99 * SPAN
    assert built.items() <= chunks(running.job_id).items()
    assert read(running.job_id, 300) == shown_before
    assert pyramid.catch_up(database) == 0


def test_another_teams_job_is_not_there(running, database, make_key):
    with database.transaction() as session, pytest.raises(NotFound):
        reading.heads(session, make_key().identity, [running.job_id])


def test_a_long_run_costs_no_more_to_read_than_a_short_one(database, identity, queue_job, claim, record):
    """Statements, chunks and rows of one answer are bounded whatever the run's length."""
    costs = {}
    for steps in (5_000, 20_000, 60_000):
        job_id = queue_job()
        claimed = claim()
        with database.transaction() as session:
            session.execute(
                text(
                    "INSERT INTO job_metrics (job_id, step, attempt, values) SELECT :job, step, 1,"
                    """ jsonb_build_object('loss', sin(step), 'lr', 0.5, 'kl', CASE WHEN step % 3 > 0 THEN 1.5 END)"""
                    " FROM generate_series(1, :steps) AS step"
                ),
                {"job": job_id, "steps": steps},
            )
        pyramid.catch_up(database)
        costs[steps] = cost(database, identity, job_id)
        with database.transaction() as session:
            leases.finish(session, job_id, claimed.attempt, JobStatus.SUCCEEDED)
    statements, fetched = zip(*costs.values(), strict=True)
    assert max(statements) <= 3 + 2, costs
    assert max(fetched) <= 3 * 64 + SPAN, costs


def cost(database, identity, job_id):
    """(statements sent, rows that came back) of reading all three metrics at 200 points."""
    sent, came = [], []

    def count(connection, cursor, statement, *_):
        sent.append(statement)
        came.append(max(0, cursor.rowcount))

    event.listen(database._engine, "after_cursor_execute", count)
    try:
        with database.transaction(snapshot=True) as session:
            heads = reading.heads(session, identity, [job_id])
            found = reading.read(session, heads, ALL, 200)[job_id]
    finally:
        event.remove(database._engine, "after_cursor_execute", count)
    assert all(49 <= len(curve) <= 200 for curve in found.values())
    return len(sent), sum(came)


def test_one_snapshot_is_one_state(running, record, database, identity, again):
    """An answer that is being read while another attempt takes steps back is the answer from before."""
    record(running, 1, started(), *(step(n, loss=1.0) for n in range(1, 3 * SPAN)))
    with database.transaction(snapshot=True) as session:
        heads = reading.heads(session, identity, [running.job_id])
        second = again(running)
        record(second, 1, started(resumed_from=5))
        found = reading.read(session, heads, ALL, 10**6)[running.job_id]
    assert found["loss"].step == list(range(1, 3 * SPAN))


def test_supersessions_are_of_steps_that_were_there(running, record, database, again):
    record(running, 1, started(), step(1, loss=1.0))
    record(again(running), 1, started(resumed_from=0), step(1, loss=1.0))
    with database.transaction() as session:
        (told,) = session.scalars(select(JobMetricSupersession)).all()
        row = session.scalars(select(JobMetric)).one()
    assert told.kept == 0
    assert row.revision > told.revision
