"""Mirrors against the real libraries in their local modes, and a job that the test plays."""

import json
import math
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from client import Asym
from client.mirrors import Mirror, TargetError, open_tracker
from client.mirrors.tracker import Point
from store import leases
from store.database import Database
from store.status import JobStatus
from tests.integration.client.conftest import Work
from trainer.spec import events

ACCURACY, LATE, COUNTS = "group/accuracy", "eval/held_out/pass_at_1", "group/correct_counts"


def step(number: int, accuracy: float) -> events.Step:
    metrics = {ACCURACY: accuracy, COUNTS: [number, 3], "entropy/informative": None}
    return events.Step(time=0.0, step=number, metrics=metrics)


def started(resumed_from: int = 0) -> events.Started:
    return events.Started(
        time=0, resumed_from=resumed_from, steps=9, device="cpu", parameters=1, prompts=1, prompts_dropped=0
    )


@pytest.fixture
def job(asym: Asym, spec: dict[str, Any], database: Database) -> Work:
    asym.create_job({**spec, "name": "mirrored"}, idempotency_key="m")
    return Work(database)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def places(tmp_path: Path) -> Path:
    return tmp_path / "places"


@pytest.fixture
def mirror(asym: Asym, places: Path, said: list[str]) -> Callable[[Any], Mirror]:
    return lambda tracker: Mirror(asym, tracker, places, said.append)


@pytest.fixture
def told(mirror: Callable[[Any], Mirror]) -> Iterator[Callable[..., None]]:
    """told(tracker, job_id): the mirror runs beside the test, until it ends by itself or the test does."""
    begun: list[tuple[Mirror, threading.Thread]] = []

    def begin(tracker: Any, job_id: str) -> tuple[Mirror, threading.Thread]:
        each = mirror(tracker)
        thread = threading.Thread(target=each.tell, args=([job_id],), kwargs={"tries": 1})
        thread.start()
        begun.append((each, thread))
        return each, thread

    yield begin
    for each, thread in begun:
        each.stop()
        thread.join(30)
        assert not thread.is_alive()


def ended(job: Work) -> str:
    """Five steps, an evaluation that comes late, and the end."""
    job.record(started(), *(step(number, number / 10) for number in range(1, 6)))
    job.record(events.Eval(time=0.0, step=2, name="held_out", metrics={LATE: 0.25}))
    job.finish(JobStatus.SUCCEEDED)
    return job.job_id


EXPECTED = {number: number / 10 for number in range(1, 6)}


def scalars(folder: Path, key: str) -> dict[int, float]:
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    points = [(each.step, each.value) for each in found.Scalars(key)] if key in found.Tags()["scalars"] else []
    assert len({number for number, _ in points}) == len(points), "a step was told twice"
    return {number: round(value, 6) for number, value in points}


def test_tensorboard_shows_every_point_under_its_key(mirror, job, tmp_path, said):
    job_id = ended(job)
    tracker = open_tracker(f"tensorboard:{tmp_path / 'tb'}", tmp_path)
    assert mirror(tracker).tell([job_id]) == []
    folder = tmp_path / "tb" / job_id
    assert scalars(folder, ACCURACY) == EXPECTED
    assert scalars(folder, f"{COUNTS}/0") == {number: number for number in range(1, 6)}
    assert scalars(folder, LATE) == {2: 0.25}
    assert scalars(folder, "entropy/informative") == {}, "what is undefined is no point"
    # Told to its end: asked again, nothing is told twice.
    assert mirror(tracker).tell([job_id]) == []
    assert scalars(folder, ACCURACY) == EXPECTED
    assert said == []


# MLflow's own store in SQLite, which a tracking server would have to itself.
@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
def test_mlflow_has_the_run_its_parameters_and_its_end(mirror, job, tmp_path):
    from mlflow.tracking import MlflowClient

    job_id, uri = ended(job), f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert mirror(open_tracker(f"mlflow:{uri}#sums", tmp_path)).tell([job_id]) == []
    client = MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("sums").experiment_id])
    assert (run.info.run_name, run.info.status, run.data.tags["asym.job"]) == (job_id, "FINISHED", job_id)
    assert (run.data.params["name"], run.data.params["train.steps"]) == ("mirrored", "5")
    history = client.get_metric_history(run.info.run_id, ACCURACY)
    assert {each.step: each.value for each in history} == EXPECTED
    assert len(history) == len(EXPECTED)


def wandb_records(file: bytes) -> Iterator[bytes]:
    """A .wandb file is a LevelDB log behind seven bytes: blocks of 32 KiB, records in pieces with a header of seven."""
    whole, first, last, at, block = 1, 2, 4, 7, 32 * 1024
    gathered = b""
    while at + 7 <= len(file):
        if block - at % block < 7:
            at += block - at % block
            continue
        length, kind = int.from_bytes(file[at + 4 : at + 6], "little"), file[at + 6]
        if at + 7 + length > len(file):  # not yet written to its end
            return
        piece = file[at + 7 : at + 7 + length]
        gathered = piece if kind in (whole, first) else gathered + piece
        if kind in (whole, last):
            yield gathered
        at += 7 + length


def test_wandb_writes_its_offline_run(mirror, job, tmp_path, monkeypatch, wait_until):
    from wandb.proto import wandb_internal_pb2

    def records():
        for data in wandb_records(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            yield record

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "runs"))
    job_id = ended(job)
    assert mirror(open_tracker("wandb:sums", tmp_path)).tell([job_id]) == []
    (file,) = (tmp_path / "runs" / "wandb").glob(f"offline-run-*-{job_id}/run-{job_id}.wandb")
    # Its own process may still be writing when finish() is done; its last record is the run's end.
    wait_until(lambda: any(record.HasField("exit") for record in records()))
    rows = [
        {each.key or "/".join(each.nested_key): json.loads(each.value_json) for each in record.history.item}
        for record in records()
        if record.HasField("history")
    ]
    assert {int(row["step"]): row[ACCURACY] for row in rows if ACCURACY in row} == EXPECTED
    assert [(int(row["step"]), row[LATE]) for row in rows if LATE in row] == [(2, 0.25)]


TRACKIO = """
import sys
from pathlib import Path
from client import Asym
from client.mirrors import Mirror, open_tracker
import trackio
url, key, job, places = sys.argv[1:]
with Asym(url, key) as asym:
    assert Mirror(asym, open_tracker("trackio:sums", Path(places)), Path(places), print).tell([job]) == []
from trackio.sqlite_storage import SQLiteStorage
import json
print("rows", json.dumps(SQLiteStorage.get_logs("sums", job), default=str))
"""


def test_trackio_has_the_run(asym, api_url, make_key, job, tmp_path):
    job_id, home = ended(job), tmp_path / "trackio"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            TRACKIO,
            api_url,
            make_key(team_id=asym.me()["team_id"]).plain,
            job_id,
            str(tmp_path / "places"),
        ],
        env={"PATH": "/usr/bin", "HOME": str(tmp_path), "TRACKIO_DIR": str(home), "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.split("rows ")[1])
    assert {row["step"]: row[ACCURACY] for row in rows if ACCURACY in row} == EXPECTED


class Recorder:
    """A tracker that keeps what it is told, and fails where it is to."""

    def __init__(self, keeps: bool) -> None:
        self.keeps = keeps
        self.runs: dict[str, list[Point]] = {}
        self.closed: dict[str, str | None] = {}
        self.discarded: list[str] = []
        self.failures = 0
        self.batches: list[int] = []

    def open(self, job: Any, run: str) -> "Recorder":
        self._run = run
        self.runs.setdefault(run, [])
        return self

    def log(self, points: Any) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("no route to the tracker")
        self.batches.append(len(points))
        self.runs[self._run] += points

    def close(self, status: str | None) -> None:
        self.closed[self._run] = status

    def discard(self, run: str) -> None:
        self.discarded.append(run)

    def values(self, run: str) -> list[tuple[int, float]]:
        """A row that was written again comes last to whoever begins later."""
        return sorted((point.step, point.values[ACCURACY]) for point in self.runs[run] if ACCURACY in point.values)


def test_a_past_that_was_taken_back_is_told_anew(told, job, asym, database, wait_until):
    tracker = Recorder(keeps=True)
    job.record(started(), *(step(number, 0.1) for number in range(1, 6)))
    _, thread = told(tracker, job.job_id)
    wait_until(lambda: len(tracker.runs.get(job.job_id, ())) == 5)
    with database.transaction() as session:
        leases.release(session, job.job_id, job.attempt, crashed=False, evidence=[])
    second = Work(database)
    second.record(started(resumed_from=3), step(4, 0.9))
    asym.cancel(job.job_id)
    second.finish(JobStatus.CANCELLED)
    thread.join(30)
    assert tracker.discarded == [job.job_id]
    assert tracker.closed == {job.job_id: None, f"{job.job_id}-2": "cancelled"}
    assert tracker.values(f"{job.job_id}-2") == [(1, 0.1), (2, 0.1), (3, 0.1), (4, 0.9)]


@pytest.mark.parametrize("keeps", [True, False])
def test_a_mirror_goes_on_where_another_stopped(told, job, wait_until, keeps):
    tracker = Recorder(keeps)
    job.record(started(), step(1, 0.1))
    first, thread = told(tracker, job.job_id)
    wait_until(lambda: len(tracker.runs.get(job.job_id, ())) == 1)
    first.stop()
    thread.join(30)
    assert tracker.closed == {job.job_id: None}
    job.record(step(2, 0.2))
    job.finish(JobStatus.SUCCEEDED)
    told(tracker, job.job_id)[1].join(30)
    assert tracker.values(job.job_id) == [(1, 0.1), (2, 0.2)]
    assert (tracker.closed, tracker.discarded) == ({job.job_id: "succeeded"}, [])


@pytest.mark.parametrize(("keeps", "run"), [(True, ""), (False, "-2")])
def test_after_a_killed_mirror_nothing_is_missing(told, job, places, wait_until, keeps, run):
    tracker = Recorder(keeps)
    job.record(started(), step(1, 0.1))
    first, thread = told(tracker, job.job_id)
    file = places / f"{job.job_id}.json"
    wait_until(lambda: len(tracker.runs.get(job.job_id, ())) == 1 and file.exists())
    wait_until(lambda: not keeps or json.loads(file.read_text())["highest"] == 1)
    killed = file.read_text()
    first.stop()
    thread.join(30)
    file.write_text(killed)  # what a killed one would have left
    job.record(step(2, 0.2))
    job.finish(JobStatus.SUCCEEDED)
    told(tracker, job.job_id)[1].join(30)
    assert tracker.values(f"{job.job_id}{run}") == [(1, 0.1), (2, 0.2)]
    assert tracker.discarded == ([] if keeps else [job.job_id])


def test_a_tracker_that_is_away_is_told_when_it_is_back(mirror, job, said, monkeypatch):
    monkeypatch.setattr("client.mirrors.follow.FIRST_PAUSE", 0.01)
    tracker = Recorder(keeps=True)
    tracker.failures = 2
    job_id = ended(job)
    assert mirror(tracker).tell([job_id], tries=3) == []
    assert [line.split("; ")[1] for line in said] == ["tried again in 0 s"] * 2
    assert "ConnectionError: no route to the tracker" in said[0]
    assert tracker.values(job_id) == list(EXPECTED.items())
    assert len(tracker.batches) == 1, "what waits is told at once"
    assert next(point.values for point in tracker.runs[job_id] if LATE in point.values)[LATE] == 0.25


def test_who_never_answers_is_given_up_and_the_job_knows_nothing_of_it(mirror, job, said, monkeypatch, asym):
    monkeypatch.setattr("client.mirrors.follow.FIRST_PAUSE", 0.01)
    tracker = Recorder(keeps=True)
    tracker.failures = math.inf  # type: ignore[assignment]
    job_id = ended(job)
    assert mirror(tracker).tell([job_id], tries=2) == [job_id]
    assert said[-1].endswith("given up")
    assert asym.job(job_id)["status"] == "succeeded"


def test_all_running_jobs_are_followed_and_those_that_were_left(mirror, asym, spec, database, wait_until, monkeypatch):
    monkeypatch.setattr("client.mirrors.follow.LOOK_SECONDS", 0.05)

    class Many:
        """One Recorder per run."""

        keeps = True

        def __init__(self) -> None:
            self.runs: dict[str, Recorder] = {}

        def open(self, job: Any, run: str) -> Recorder:
            return self.runs.setdefault(run, Recorder(True)).open(job, run)

        def discard(self, run: str) -> None:
            raise AssertionError(run)

    many = Many()
    following = mirror(many)
    thread = threading.Thread(target=following.follow)
    thread.start()
    jobs = []
    for number in range(2):
        asym.create_job(spec, idempotency_key=f"followed {number}")
        jobs.append(Work(database))
    for each in jobs:
        ended(each)
    wait_until(lambda: len(many.runs) == 2 and all(run.closed for run in many.runs.values()))
    following.stop()
    thread.join(30)
    assert {run: recorder.values(run) for run, recorder in many.runs.items()} == {
        each.job_id: list(EXPECTED.items()) for each in jobs
    }


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("tensorbord:x", "names no tracker; one of: tensorboard:DIR"),
        ("mlflow:", "names no tracker"),
        ("", "no tracker"),
    ],
)
def test_a_target_that_is_none_is_told(target, said, tmp_path):
    with pytest.raises(TargetError, match=said):
        open_tracker(target, tmp_path)
