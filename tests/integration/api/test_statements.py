"""What the routes that are asked most ask of the database: counted, so that nobody adds a round trip unawares."""

from collections import Counter
from contextlib import contextmanager

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from api.jobs import admission


@pytest.fixture
def counted(app):
    """`with counted() as seen`: statements and commits of the application's tenants meanwhile."""

    @contextmanager
    def count():
        seen: Counter[str] = Counter()
        engine: Engine = app.state.api.database._engine
        listeners = {
            "before_cursor_execute": lambda *_: seen.update(["statements"]),
            "commit": lambda *_: seen.update(["commits"]),
        }
        for name, listener in listeners.items():
            event.listen(engine, name, listener)
        try:
            yield seen
        finally:
            for name, listener in listeners.items():
                event.remove(engine, name, listener)

    return count


def test_a_list_of_jobs_takes_four_statements_however_long_it_is(member, make_job, counted):
    ids = [make_job(member)["id"] for _ in range(12)]
    with counted() as seen:
        listed = member.get("/jobs")
    assert [job["id"] for job in listed.json()["data"]] == ids[::-1]
    # Whose key it is; the transaction and its team; which jobs; the jobs with their owners.
    assert seen == {"statements": 4, "commits": 1}
    with counted() as seen:
        again = member.get("/jobs", headers={"If-None-Match": listed.headers["etag"]})
    assert again.status_code == 304
    assert seen == {"statements": 3, "commits": 1}


def test_a_new_job_takes_fifteen_statements_and_one_commit(member, make_job, counted, make_dataset, make_spec):
    spec = make_spec(make_dataset(member.key.identity).id).model_dump(mode="json")
    with counted() as seen:
        assert member.post("/jobs", json=spec).status_code == 201
    # Whose key; BEGIN; data sets; limits; the job; its event; its owner; five for its place and two around them; the
    # notification; the audit log. The last two do not wait for the disk.
    assert seen["commits"] == 1
    assert seen["statements"] <= 15


def test_what_is_in_a_file_is_read_once(member, make_dataset, make_spec):
    rows = [{"prompt": "7+8=", "answer": "15"}] * 20
    spec = make_spec(make_dataset(member.key.identity, rows).id).model_dump(mode="json")
    admission._offenders.cache_clear()
    for _ in range(3):
        assert member.post("/jobs", json=spec).status_code == 201
    assert (admission._offenders.cache_info().misses, admission._offenders.cache_info().hits) == (1, 2)


def test_looking_at_a_job_takes_no_more_statements_with_a_longer_queue(member, make_job, counted):
    job_id = make_job(member)["id"]
    taken = []
    for _ in range(2):
        with counted() as seen:
            assert member.get(f"/jobs/{job_id}").json()["queue"]["position"] == 1
        taken.append(seen["statements"])
        for _ in range(5):
            make_job(member)
    assert taken[0] == taken[1] <= 12
