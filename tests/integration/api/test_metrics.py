"""Metrics over HTTP: only what has changed, nothing when nothing has, and as they are written."""

import json
import threading
from datetime import datetime

import httpx
import pytest
from httpx_sse import EventSource
from sqlalchemy import event

from api.metrics.cache import Answers
from store import leases
from trainer.spec.events import Eval, Started, Step


def steps(first, last, **metrics):
    return [Step(time=0, step=n, metrics={"loss": float(n), **metrics}) for n in range(first, last + 1)]


def started(resumed_from=0):
    return Started(
        time=0, resumed_from=resumed_from, steps=500, device="cpu", parameters=1, prompts=1, prompts_dropped=0
    )


@pytest.fixture
def run(member, make_job, start_run):
    return start_run(make_job(member, train={"steps": 500})["id"])


@pytest.fixture
def again(start_run):
    """again(run): its attempt crashed and another one has claimed the job."""

    def take(run):
        with run.database.transaction() as session:
            leases.release(session, run.job_id, run.attempt, crashed=False, evidence=[])
        return start_run(run.job_id)

    return take


class Client:
    """What a chart does with the answers: it keeps points by step and asks for what is new."""

    def __init__(self, caller, job_id, **params):
        self._caller, self._path, self._params = caller, f"/jobs/{job_id}/metrics", params
        self.cursor, self.points, self.received = "0", {}, 0

    def poll(self):
        response = self._caller.get(self._path, params={**self._params, "since": self.cursor})
        assert response.status_code == 200, response.text
        answer = response.json()
        self.apply(answer)
        return answer

    def apply(self, answer):
        if answer["drop_after"] is not None:
            for points in self.points.values():
                for step in [step for step in points if step > answer["drop_after"]]:
                    del points[step]
        for key, column in answer["keys"].items():
            self.points.setdefault(key, {}).update(zip(column["step"], column["value"], strict=True))
            self.received += len(column["step"])
        self.cursor = answer["cursor"]


def test_a_client_that_asks_for_what_is_new_has_what_there_is(member, run, again):
    client = Client(member, run.job_id)
    assert client.poll() == {"keys": {}, "cursor": "0", "drop_after": -1}
    run.record(started(), *steps(1, 300))
    assert client.poll()["drop_after"] == -1
    run.record(Eval(time=0, step=100, name="a", metrics={"eval/a": 0.5}), *steps(301, 310))
    news = client.poll()
    assert news["keys"]["eval/a"] == {"step": [100], "value": [0.5]}
    assert news["keys"]["loss"]["step"] == [100, *range(301, 311)]
    assert news["drop_after"] is None
    second = again(run)
    second.record(started(resumed_from=200))
    second.record(*steps(201, 205, redone=1.0))
    news = client.poll()
    assert (news["drop_after"], news["keys"]["loss"]["step"]) == (200, list(range(201, 206)))
    assert client.points["loss"] == {n: float(n) for n in range(1, 206)}
    assert client.points["redone"] == dict.fromkeys(range(201, 206), 1.0)
    received = client.received
    assert client.poll() == {"keys": {}, "cursor": client.cursor, "drop_after": None}
    assert client.received == received
    whole = member.get(f"/jobs/{run.job_id}/metrics").json()["keys"]
    assert {key: dict(zip(c["step"], c["value"], strict=True)) for key, c in whole.items()} == client.points


def test_whoever_was_away_for_long_gets_the_whole_anew(member, run):
    client = Client(member, run.job_id, max_points=50, keys="loss")
    run.record(started(), *steps(1, 20))
    client.poll()
    run.record(*steps(21, 71))
    news = client.poll()
    assert news["drop_after"] == -1
    assert len(client.points["loss"]) <= 50
    assert {1, 71} <= client.points["loss"].keys()
    run.record(*steps(72, 121))
    assert client.poll()["drop_after"] is None
    assert {1, *range(72, 122)} <= client.points["loss"].keys()


def test_compare_tells_what_is_new_of_each_job(member, make_job, start_run):
    runs = []
    for _ in range(2):
        run = start_run(make_job(member)["id"])
        run.record(started(), *steps(1, 3))
        runs.append(run)
    asked = {"jobs": ",".join(run.job_id for run in runs), "keys": "loss"}
    first = member.get("/compare", params=asked | {"since": "0"}).json()
    assert {job["drop_after"] for job in first["jobs"].values()} == {-1}
    runs[1].record(*steps(4, 4))
    news = member.get("/compare", params=asked | {"since": first["cursor"]}).json()
    unchanged, changed = (news["jobs"][run.job_id] for run in runs)
    assert (unchanged["keys"], unchanged["drop_after"]) == ({}, None)
    assert (changed["keys"], changed["drop_after"]) == ({"loss": {"step": [4], "value": [4.0]}}, None)
    assert member.get("/compare", params=asked | {"since": "12"}).status_code == 422


@pytest.mark.parametrize("bad", ["x", "-1", "1,2", "9" * 30, "1.5", ""])
def test_a_bad_cursor_is_refused(member, run, bad):
    response = member.get(f"/jobs/{run.job_id}/metrics", params={"since": bad})
    assert response.status_code == 422
    assert response.json()["errors"][0]["loc"] == ["query", "since"]


def test_what_is_still_the_same_is_not_sent_again(member, run, app):
    run.record(started(), *steps(1, 5))
    compared = {"jobs": run.job_id}
    for path, params in ((f"/jobs/{run.job_id}/metrics", {}), ("/compare", compared)):
        first = member.get(path, params=params)
        tag = first.headers["etag"]
        assert first.headers["cache-control"] == "private, no-cache"
        for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            same = member.get(path, params=params, headers={"If-None-Match": known})
            assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
        assert member.get(path, params=params, headers={"If-None-Match": '"other"'}).content == first.content
        assert member.get(path, params={**params, "max_points": 3}).headers["etag"] != tag
        assert member.get(path, params={**params, "keys": "loss"}).headers["etag"] != tag
    known = {"If-None-Match": member.get(f"/jobs/{run.job_id}/metrics").headers["etag"]}
    run.record(*steps(6, 6))
    now = member.get(f"/jobs/{run.job_id}/metrics", headers=known)
    assert now.status_code == 200
    assert now.json()["keys"]["loss"]["step"] == [1, 2, 3, 4, 5, 6]
    tag = member.get("/compare", params=compared).headers["etag"]
    run.finish()  # its status is part of that answer
    now = member.get("/compare", params=compared, headers={"If-None-Match": tag})
    assert now.json()["jobs"][run.job_id]["status"] == "succeeded"


def test_an_answer_is_made_once_for_a_state_and_never_for_another_team(member, caller, run, app, again):
    run.record(started(), *steps(1, 200))
    path, state = f"/jobs/{run.job_id}/metrics", app.state.api
    first = member.get(path)
    statements = []
    event.listen(state.database._engine, "after_cursor_execute", lambda *given: statements.append(given[2]))
    assert member.get(path).content == first.content
    assert not [statement for statement in statements if "job_metric_chunks" in statement]
    assert caller().get(path).status_code == 404
    assert caller(team_id=member.key.identity.team_id).get(path).content == first.content
    # Steps that are taken back and done anew: the same steps, other values.
    second = again(run)
    second.record(started(resumed_from=100), *steps(101, 200, other=1.0))
    assert member.get(path).json()["keys"]["other"]["step"] == list(range(101, 201))


def test_the_cache_is_bounded_in_bytes_and_lets_go_of_the_least_used():
    answers = Answers(10_000)
    for number in range(3):
        answers.put(number, b"x" * 2000)
    assert answers.get(0) is not None
    for number in range(3, 5):
        answers.put(number, b"x" * 2000)
    assert [number for number in range(5) if answers.get(number)] == [0, 2, 3, 4] or answers.size <= 10_000
    assert answers.get(0) is not None
    assert answers.get(1) is None
    answers.put(0, b"y" * 1000)
    assert answers.get(0) == b"y" * 1000
    answers.put("large", b"x" * 2501)
    assert answers.get("large") is None
    assert answers.size <= 10_000


@pytest.fixture
def stream(start_server):
    """stream(caller, job_id, last=None, **params): a thread that collects what is streamed; .messages, .end."""
    url = start_server()

    class Reader(threading.Thread):
        def __init__(self, caller, job_id, last=None, **params):
            super().__init__(daemon=True)
            self.messages, self.end, self._params = [], None, params
            self._path = f"{url}/jobs/{job_id}/metrics"
            self._headers = {"Authorization": f"Bearer {caller.key.plain}", "Accept": "text/event-stream"}
            if last is not None:
                self._headers["Last-Event-ID"] = last
            self.start()

        def run(self):
            with (
                httpx.Client(timeout=60) as client,
                client.stream("GET", self._path, headers=self._headers, params=self._params) as response,
            ):
                assert response.headers["content-type"].startswith("text/event-stream")
                for each in EventSource(response).iter_sse():
                    if each.event == "end":
                        self.end = json.loads(each.data)
                    elif each.data:  # httpx-sse gives an empty message for a keep-alive behind one with an id
                        self.messages.append((each.event, each.id, json.loads(each.data)))

    return Reader


def test_rows_are_streamed_as_they_are_written(member, run, stream, wait_until, again):
    run.record(started(), *steps(1, 2))
    readers = [stream(member, run.job_id) for _ in range(3)]
    picky = stream(member, run.job_id, keys="a*")
    wait_until(lambda: all(reader.messages for reader in [*readers, picky]))
    run.record(*steps(3, 3, acc=0.5))
    wait_until(lambda: all(len(reader.messages) == 2 for reader in [*readers, picky]))
    second = again(run)
    second.record(started(resumed_from=2))
    second.record(*steps(3, 3, acc=0.75))
    second.finish()
    for reader in [*readers, picky]:
        reader.join(timeout=20)
        assert not reader.is_alive()
        assert reader.end == {"status": "succeeded"}
    for kind, _, data in readers[0].messages:
        if kind == "metrics":
            assert datetime.fromisoformat(data.pop("at")).tzinfo is not None
    for reader in readers[1:]:
        for _, _, data in reader.messages:
            data.pop("at", None)
    assert [(kind, data) for kind, _, data in readers[0].messages[1:]] == [
        ("metrics", {"step": 3, "attempt": 1, "values": {"loss": 3.0, "acc": 0.5}}),
        ("superseded", {"drop_after": 2}),
        ("metrics", {"step": 3, "attempt": 2, "values": {"loss": 3.0, "acc": 0.75}}),
    ]
    assert all(reader.messages == readers[0].messages for reader in readers)
    assert [data["values"] for kind, _, data in picky.messages if kind == "metrics"] == [{"acc": 0.5}, {"acc": 0.75}]


def test_a_stream_goes_on_where_it_broke_off_and_behind_a_polled_cursor(member, run, stream):
    run.record(started(), *steps(1, 2))
    cursor = member.get(f"/jobs/{run.job_id}/metrics", params={"since": "0"}).json()["cursor"]
    run.record(*steps(3, 600))
    run.finish()
    reader = stream(member, run.job_id, since=cursor)
    reader.join(timeout=30)
    assert [data["step"] for kind, _, data in reader.messages if kind == "metrics"] == list(range(3, 601))
    for place in (0, 1, 400):
        rest = stream(member, run.job_id, last=reader.messages[place][1])
        rest.join(timeout=30)
        assert rest.messages[1:] == reader.messages[place + 1 :]
        assert rest.end == {"status": "succeeded"}


def test_a_stream_of_a_job_that_is_not_there_is_refused(member, caller, run):
    accept = {"Accept": "text/event-stream"}
    assert caller().get(f"/jobs/{run.job_id}/metrics", headers=accept).status_code == 404
    response = member.get(f"/jobs/{run.job_id}/metrics", headers=accept | {"Last-Event-ID": "x"})
    assert response.status_code == 422
    assert response.json()["errors"][0]["loc"] == ["header", "last-event-id"]
