"""Jobs and sweeps held in the hand, blocking and with asyncio, against the real API; the test plays the worker."""

import asyncio
import hashlib
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from client import Asym, AsymError, AsyncAsym
from client.spec_file import SpecFileError
from store.database import Database
from store.settings import Settings
from store.status import JobStatus
from tests.integration.client.conftest import Work
from trainer.spec import events

CONTENT = {"model/config.json": b"{}", "model/deep/weights.safetensors": bytes(3_000_000), "state.json": b"{}"}


def step(number: int, accuracy: float | None) -> events.Step:
    return events.Step(
        time=time.time(), step=number, metrics={"group/accuracy": accuracy, "rollout/tokens": 10 * number}
    )


@pytest.fixture
def checkpoint(settings: Settings) -> Callable[[Work], events.Checkpoint]:
    """checkpoint(work): the files of its checkpoint of step 2, and the event that tells of them."""

    def write(work: Work) -> events.Checkpoint:
        folder = settings.artifacts / "jobs" / work.job_id / "attempts" / str(work.attempt) / "checkpoints" / "2"
        for name, data in CONTENT.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        files = {name: {"bytes": len(data), "sha256": ""} for name, data in CONTENT.items()}
        manifest = json.dumps({"format": 1, "step": 2, "files": files}).encode()
        (folder / "manifest.json").write_bytes(manifest)
        digest = hashlib.sha256(manifest).hexdigest()
        return events.Checkpoint(time=0, step=2, path="checkpoints/2", bytes=1, manifest_sha256=digest, score=None)

    return write


def test_a_job_from_its_file_to_its_model(
    asym: Asym,
    spec: dict[str, Any],
    additions: Path,
    database: Database,
    checkpoint: Callable[[Work], events.Checkpoint],
    tmp_path: Path,
) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(json.dumps({**spec, "data": {"train": additions.name}}))
    sent: list[tuple[int, int | None]] = []
    job = asym.submit(path, progress=lambda *now: sent.append(now))
    assert sent[-1] == (additions.stat().st_size,) * 2
    assert repr(job) == f"<job {job.id} 'additions': queued, step 0/{job.seen['progress']['steps']}>"
    with pytest.raises(AsymError, match="none that can be exported"):
        job.export(None, tmp_path / "none")
    assert job.pause().status == "paused"
    assert job.resume().status == "queued"
    assert job.edit(tags=["x"]).seen["tags"] == ["x"]
    work = Work(database)
    work.record(step(1, 0.25), step(2, None), checkpoint(work), lines=[f"line {number}" for number in range(1200)])
    assert (job.status, job.refresh().status) == ("queued", "running")
    work.record(step(3, 0.5))
    work.finish(JobStatus.SUCCEEDED)
    assert [event["data"]["step"] for event in job.stream() if event["type"] == "step"] == [1, 2, 3]
    assert job.wait(timeout=10).ended

    frame = job.metrics(["rollout/tokens", "group/*"])
    assert list(frame.columns) == ["rollout/tokens", "group/accuracy"]
    assert frame["rollout/tokens"].dtype == "Int64"
    assert frame["group/accuracy"].isna().tolist() == [False, True, False]
    assert list(job.metrics(from_step=2).index) == [2, 3]
    assert [row["step"] for row in job.stream_metrics(["group/accuracy"]) if "values" in row] == [1, 2, 3]
    assert [each["line"] for each in job.logs()] == [f"line {number}" for number in range(1200)]
    assert [each["line"] for each in job.logs(tail=1)] == ["line 1199"]
    assert len(list(job.stream_logs())) == 1200
    assert [each["step"] for each in job.checkpoints()] == [2]
    come: list[tuple[int, int | None]] = []
    model = job.export(None, tmp_path / "model", progress=lambda *now: come.append(now))
    assert (model / "deep/weights.safetensors").stat().st_size == 3_000_000
    assert come[-1][0] == come[-1][1]
    assert come[-1][0] > 3_000_000
    assert [size for size, _ in come] == sorted(size for size, _ in come)

    other = job.clone({"seed": 7})
    assert (other.id != job.id, other.seen["cloned_from"]) == (True, job.id)
    again = other.cancel().retry()
    assert again.seen["retry_of"] == other.id
    compared = asym.compare_frame([job, other.id], ["group/accuracy"])
    assert compared["group/accuracy"].dropna().to_dict() == {(job.id, 1): 0.25, (job.id, 3): 0.5}
    again.cancel()
    again.delete()
    with pytest.raises(AsymError) as gone:
        asym.get(again.id)
    assert gone.value.status == 404
    path.write_text(json.dumps({**spec, "data": {"train": "gone.jsonl"}}))
    with pytest.raises(SpecFileError, match="gone"):
        asym.submit(path)


def test_a_sweep_is_held_and_becomes_a_table(asym: Asym, spec: dict[str, Any], additions: Path) -> None:
    search = {"kind": "grid", "parameters": {"algorithm.beta_pos": [0.5, 0.9]}}
    plan = {"name": "betas", "base": {**spec, "data": {"train": additions.name}}, "search": search, "seeds": [1]}
    path = additions.parent / "plan.json"
    path.write_text(json.dumps(plan))
    sweep = asym.submit_sweep(path)
    table = sweep.table()
    assert table["algorithm.beta_pos"].tolist() == [0.5, 0.9]
    assert table["job"].tolist() == sweep.job_ids
    assert table["status"].tolist() == ["queued"] * 2
    assert sweep.job(table.index[0]).id == sweep.job_ids[0]
    with pytest.raises(KeyError):
        sweep.job(99)
    with pytest.raises(TimeoutError):
        sweep.wait(timeout=0.1)
    assert sweep.pause().seen["statuses"] == {"paused": 2}
    assert sweep.resume().seen["statuses"] == {"queued": 2}
    assert sweep.cancel().wait(timeout=10).seen["statuses"] == {"cancelled": 2}
    assert asym.get_sweep(sweep.id).seen["id"] == sweep.id


def test_the_same_with_asyncio(
    asym: Asym,
    key: str,
    spec: dict[str, Any],
    additions: Path,
    database: Database,
    checkpoint: Callable[[Work], events.Checkpoint],
    tmp_path: Path,
) -> None:
    async def run() -> None:
        async with AsyncAsym(asym.api_url, key) as connection:
            dataset = await connection.upload_dataset(additions, name="sums")
            assert [each["id"] async for each in connection.datasets(name="sums")] == [dataset["id"]]
            job = await connection.submit({**spec, "data": {**spec["data"], "train": dataset["id"]}})
            work = Work(database)
            steps: list[int] = []

            async def follow() -> None:
                async for event in job.stream():
                    if event["type"] == "step":
                        steps.append(event["data"]["step"])

            following = asyncio.create_task(follow())
            waiting = asyncio.create_task(job.wait(timeout=30))
            work.record(step(1, 0.25), step(2, 0.5), checkpoint(work), lines=["one"])
            work.finish(JobStatus.SUCCEEDED)
            await asyncio.gather(following, waiting)
            assert (steps, job.status) == ([1, 2], "succeeded")
            assert (await job.metrics(["group/accuracy"]))["group/accuracy"].tolist() == [0.25, 0.5]
            assert [each["line"] for each in await job.logs()] == ["one"]
            come: list[tuple[int, int | None]] = []
            model = await job.export(2, tmp_path / "model", progress=lambda *now: come.append(now))
            assert (model / "deep/weights.safetensors").stat().st_size == 3_000_000
            assert come[-1][0] == come[-1][1]
            with pytest.raises(AsymError) as gone:
                await job.export(3, tmp_path / "none")
            assert gone.value.status == 404

    asyncio.run(run())


def test_an_export_that_is_given_up_ends_its_thread_and_leaves_nothing(tmp_path: Path) -> None:
    begun = threading.Event()
    over = threading.Event()

    class Stalling(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(b"\0" * 100)
            begun.set()
            over.wait(30)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    async def give_up(url: str) -> None:
        async with AsyncAsym(url, "asym_x") as connection:
            export = asyncio.create_task(connection.export_checkpoint("job_1", 2, tmp_path / "model"))
            await asyncio.to_thread(begun.wait, 30)
            export.cancel()
            with pytest.raises(asyncio.CancelledError):
                await export

    with ThreadingHTTPServer(("127.0.0.1", 0), Stalling) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        asyncio.run(give_up(f"http://127.0.0.1:{server.server_address[1]}"))
        over.set()
        server.shutdown()
        thread.join()
    assert list(tmp_path.iterdir()) == []
