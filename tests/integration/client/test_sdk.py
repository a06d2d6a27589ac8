"""The SDK against the real API, as a process; the test plays the worker through the store."""

import hashlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from client import Asym, AsymError, Unreachable
from client.results import TERMINAL
from store.database import Database
from store.ids import new_id
from store.settings import Settings
from store.status import JobStatus
from tests.integration.client.conftest import DEADLINE, Work
from trainer.spec import events


class ApiProcess:
    """`python -m api`, started, killed and started again on one port."""

    def __init__(self, environment: dict[str, str], port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._argv = [sys.executable, "-m", "api", "--port", str(port)]
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._argv, env=self._environment, stderr=subprocess.DEVNULL)

    def end(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(DEADLINE)


@pytest.fixture
def api_process(environment: dict[str, str], free_port: Callable[[], int]) -> Iterator[ApiProcess]:
    process = ApiProcess(environment, free_port())
    process.start()
    yield process
    process.end(signal.SIGTERM)


def step(number: int, accuracy: float) -> events.Step:
    return events.Step(time=time.time(), step=number, metrics={"group/accuracy": accuracy, "entropy/informative": None})


def test_a_data_set_from_upload_to_deletion(asym: Asym, additions: Path) -> None:
    uploaded = asym.upload_dataset(additions, name="sums")
    assert (uploaded["name"], uploaded["rows"], uploaded["format"]) == ("sums", 64, "jsonl")
    assert asym.dataset(uploaded["id"]) == uploaded
    assert [each["id"] for each in asym.datasets()] == [uploaded["id"]]
    page = asym.dataset_rows(uploaded["id"], limit=2)
    assert [row["prompt"] for row in page["data"]] == ["10+11=", "11+11="]
    rest = asym.dataset_rows(uploaded["id"], limit=100, after=page["data"][-1]["row"])
    assert len(rest["data"]) == 62
    asym.delete_dataset(uploaded["id"])
    with pytest.raises(AsymError) as gone:
        asym.dataset(uploaded["id"])
    assert gone.value.status == 404


def test_columns_of_unusual_names(asym: Asym, tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    path.write_text("frage,antwort\n1+1=,2\n")
    columns = {"prompt": "frage", "answer": "antwort"}
    uploaded = asym.upload_dataset(path, columns=columns)
    assert asym.dataset_rows(uploaded["id"], columns=columns)["data"][0]["answer"] == "2"
    again = asym.upload_dataset(path, columns=columns)
    assert [each["version"] for each in asym.datasets(name="odd.csv")] == [2, 1]
    assert again["statistics"]["answer_kinds"] == {"integer": 1}


def test_a_rejected_file_lists_its_bad_lines(asym: Asym, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    good = '{"prompt": "1+1=", "answer": "2"}'
    path.write_text("\n".join([good, good, "no json", good, good, good, '{"prompt": "x"}', good, "[]", good]) + "\n")
    with pytest.raises(AsymError) as rejected:
        asym.upload_dataset(path)
    assert rejected.value.status == 422
    assert [error["line"] for error in rejected.value.errors] == [3, 7, 9]
    assert rejected.value.error_count == 3
    assert "line 7" in str(rejected.value)
    assert list(asym.datasets()) == []


def test_a_job_is_made_once_per_idempotency_key(asym: Asym, spec: dict[str, Any]) -> None:
    first = asym.create_job(spec, idempotency_key="one")
    assert first["status"] == "queued"
    assert asym.create_job(spec, idempotency_key="one")["id"] == first["id"]
    with pytest.raises(AsymError) as conflict:
        asym.create_job({**spec, "seed": 7}, idempotency_key="one")
    assert conflict.value.status == 409
    assert asym.create_job(spec)["id"] != asym.create_job(spec)["id"]
    assert len(list(asym.jobs(status="queued"))) == 3
    assert len(asym.queue()) == 3


def test_a_dry_run_says_what_the_job_would_be(asym: Asym, spec: dict[str, Any]) -> None:
    found = asym.validate_job(spec)
    assert found["spec"]["algorithm"]["beta_pos"] == 0.9
    assert found["queue"]["position"] == 1
    assert list(asym.jobs()) == []


def test_an_invalid_spec_names_every_field(asym: Asym, spec: dict[str, Any]) -> None:
    spec["rollout"]["group_size"] = 1
    spec["surprise"] = True
    with pytest.raises(AsymError) as refused:
        asym.create_job(spec)
    assert refused.value.status == 422
    assert "rollout.group_size" in str(refused.value)
    assert "surprise" in str(refused.value)


def test_a_data_set_that_is_not_there_is_named(asym: Asym, spec: dict[str, Any]) -> None:
    spec["data"]["train"] = new_id("ds")
    with pytest.raises(AsymError, match=r"data\.train") as missing:
        asym.create_job(spec)
    assert missing.value.status == 404


def test_lists_go_beyond_a_page(asym: Asym, spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client._sync.calls.PAGE", 2)
    made = [asym.create_job({**spec, "name": f"job {number}"})["id"] for number in range(5)]
    assert [job["id"] for job in asym.jobs()] == made[::-1]
    assert [job["id"] for job in asym.jobs(limit=3)] == made[:1:-1]
    page = asym.jobs_page(limit=2)
    assert page["has_more"]
    assert [job["id"] for job in asym.jobs_page(limit=2, after=str(page["next"]))["data"]] == [made[2], made[1]]


def test_a_job_s_history(asym: Asym, spec: dict[str, Any], database: Database) -> None:
    job_id = asym.create_job(spec)["id"]
    work = Work(database)
    now = time.time()
    rollout = events.Rollout(
        group=0, sample=1, row=3, prompt="1+1=", completion="2", answer="2", reward=1.0, correct=True, advantage=0.5,
        tokens=2, truncated=False, entropy=0.1,
    )  # fmt: skip
    work.record(
        events.Started(time=now, resumed_from=0, steps=5, device="cpu", parameters=1, prompts=64, prompts_dropped=0),
        step(1, 0.25),
        events.Rollouts(
            time=now, step=1, rollouts=[rollout, rollout.model_copy(update={"sample": 2, "correct": False})]
        ),
        step(2, 0.5),
        lines=["first line", "second line"],
    )
    assert asym.job(job_id)["progress"]["step"] == 2
    assert asym.metrics(job_id, ["group/accuracy", "entropy/informative"])["keys"] == {
        "group/accuracy": {"step": [1, 2], "value": [0.25, 0.5]},
        "entropy/informative": {"step": [1, 2], "value": [None, None]},
    }
    assert asym.metrics(job_id, ["group/*"], from_step=2)["keys"]["group/accuracy"]["step"] == [2]
    assert [each["sample"] for each in asym.rollouts(job_id)["data"]] == [1, 2]
    assert [each["sample"] for each in asym.rollouts(job_id, step=1, correct=True)["data"]] == [1]
    assert [each["line"] for each in asym.logs(job_id)["data"]] == ["first line", "second line"]
    assert asym.checkpoints(job_id) == []
    assert [each["name"] for each in asym.workers()] == ["w"]
    compared = asym.compare([job_id], ["group/accuracy"], max_points=100)["jobs"]
    assert list(compared) == [job_id]
    assert compared[job_id]["keys"]["group/accuracy"]["value"] == [0.25, 0.5]
    told = asym.events(job_id)["data"]
    assert [each["type"] for each in told][-2:] == ["step", "step"]
    assert asym.events(job_id, after=told[-2]["id"])["data"] == [told[-1]]


def test_events_stream_live_until_the_end(asym: Asym, spec: dict[str, Any], database: Database) -> None:
    job_id = asym.create_job(spec)["id"]
    work = Work(database)
    stream = asym.stream_events(job_id)
    steps = []
    for event in stream:
        if event["type"] == "state" and event["data"]["status"] == "running":
            work.record(step(1, 0.1))  # while the stream is open
        if event["type"] == "step":
            steps.append(event["data"]["step"])
            if len(steps) < 3:
                work.record(step(len(steps) + 1, 0.1))
            else:
                work.finish(JobStatus.SUCCEEDED)
    assert steps == [1, 2, 3]
    assert asym.job(job_id)["status"] in TERMINAL
    everything = asym.events(job_id)["data"]
    middle = everything[2]["id"]
    assert [each["id"] for each in asym.stream_events(job_id, after=middle)] == [each["id"] for each in everything[3:]]


def test_metrics_are_followed_by_their_cursor(asym: Asym, spec: dict[str, Any], database: Database) -> None:
    job_id = asym.create_job(spec)["id"]
    work = Work(database)
    work.record(step(1, 0.1))
    whole = asym.metrics(job_id, ["group/accuracy"], since="0")
    assert (whole["keys"]["group/accuracy"]["step"], whole["drop_after"]) == ([1], -1)
    work.record(step(2, 0.2))
    new = asym.metrics(job_id, ["group/accuracy"], since=whole["cursor"])
    assert (new["keys"]["group/accuracy"], new["drop_after"]) == ({"step": [2], "value": [0.2]}, None)
    assert asym.metrics(job_id, since=new["cursor"])["keys"] == {}
    seen = []
    for row in asym.stream_metrics(job_id, ["group/accuracy"]):
        assert "values" in row
        seen.append((row["step"], row["values"]))
        if len(seen) == 2:
            work.record(step(3, 0.3))  # while the stream is open
        if len(seen) == 3:
            work.finish(JobStatus.SUCCEEDED)
    assert seen == [(number, {"group/accuracy": number / 10}) for number in (1, 2, 3)]
    (last,) = asym.stream_metrics(job_id, since=new["cursor"])
    assert "values" in last
    assert last["step"] == 3


def test_a_stream_outlives_a_killed_api(
    api_process: ApiProcess,
    make_key: Callable[..., Any],
    make_dataset: Callable[..., Any],
    make_spec: Callable[..., Any],
    database: Database,
    wait_until: Callable[..., object],
) -> None:
    key = make_key()
    spec = make_spec(make_dataset(key.identity).id).model_dump(mode="json")
    with Asym(api_process.url, key.plain) as asym:
        wait_until(asym.ready, DEADLINE)
        job_id = asym.create_job(spec)["id"]
        work = Work(database)
        work.record(step(1, 0.1))
        steps: list[int] = []

        def read() -> None:
            steps.extend(event["data"]["step"] for event in asym.stream_events(job_id) if event["type"] == "step")

        reader = threading.Thread(target=read)
        reader.start()
        wait_until(lambda: steps == [1], DEADLINE)
        api_process.end(signal.SIGKILL)
        work.record(step(2, 0.2))
        api_process.start()
        wait_until(asym.ready, DEADLINE)
        work.record(step(3, 0.3))
        work.finish(JobStatus.SUCCEEDED)
        reader.join(DEADLINE)
        assert not reader.is_alive()
        assert steps == [1, 2, 3]


def test_a_killed_api_is_unreachable(
    api_process: ApiProcess, make_key: Callable[..., Any], wait_until: Callable[..., object]
) -> None:
    with Asym(api_process.url, make_key().plain, retries=0) as asym:
        wait_until(asym.ready, DEADLINE)
        assert asym.me()["role"] == "member"
        api_process.end(signal.SIGKILL)
        with pytest.raises(Unreachable):
            asym.me()


def test_cancel_pause_and_resume(asym: Asym, spec: dict[str, Any]) -> None:
    job_id = asym.create_job(spec)["id"]
    assert asym.pause(job_id)["status"] == "paused"
    assert asym.pause(job_id)["status"] == "paused"
    assert asym.resume(job_id)["status"] == "queued"
    with pytest.raises(TimeoutError):
        asym.wait(job_id, timeout=0.1)
    assert asym.cancel(job_id)["status"] == "cancelled"
    assert asym.wait(job_id, timeout=5)["status"] == "cancelled"
    assert [event["data"]["status"] for event in asym.stream_events(job_id) if event["type"] == "state"][
        -1
    ] == "cancelled"


def test_keys_and_roles(asym: Asym) -> None:
    assert asym.me()["role"] == "admin"
    made = asym.create_key("reader", role="viewer")
    assert made["key"].startswith("asym_")
    with Asym(asym.api_url, made["key"]) as viewer:
        assert viewer.me()["key_id"] == made["id"]
        with pytest.raises(AsymError) as forbidden:
            viewer.create_key("x")
        assert forbidden.value.status == 403
        asym.revoke_key(made["id"])
        with pytest.raises(AsymError) as revoked:
            viewer.me()
        assert revoked.value.status == 401
    (listed,) = [key for key in list(asym.keys()) if key["id"] == made["id"]]
    assert listed["revoked_at"] is not None


def test_what_the_platform_offers(asym: Asym) -> None:
    assert "builtin/tiny-arith" in [model["id"] for model in asym.models()]
    presets = {preset["name"]: preset["algorithm"] for preset in asym.presets()}
    assert presets["asymgrpo"]["beta_neg"] == 0.4


def test_jobs_are_found_by_what_is_said_of_them(asym: Asym, spec: dict[str, Any]) -> None:
    first = asym.create_job({**spec, "name": "zebra", "tags": ["paper", "baseline"]})
    second = asym.create_job({**spec, "name": "aardvark", "tags": ["paper"]})
    assert [job["id"] for job in asym.jobs(tags=["paper"], sort="-name")] == [first["id"], second["id"]]
    assert [job["id"] for job in asym.jobs(tags=["paper", "baseline"], status=["queued", "running"])] == [first["id"]]
    edited = asym.edit_job(second["id"], tags=[], notes="an ant-eater of the Cape")
    assert (edited["name"], edited["tags"]) == ("aardvark", [])
    assert [job["id"] for job in asym.jobs(text="ant eat")] == [second["id"]]
    assert list(asym.jobs(preset="grpo")) == []
    assert asym.edit_job(second["id"], name="b", notes="")["notes"] == ""
    page = asym.jobs_page(ids=[first["id"], "job_none"], tags=["paper"])
    assert [job["id"] for job in page["data"]] == [first["id"]]


def test_an_edit_of_what_somebody_edited_meanwhile_is_refused(asym: Asym, spec: dict[str, Any]) -> None:
    made = asym.create_job(spec)
    seen, tag = asym.job_to_edit(made["id"])
    assert seen["notes"] == ""
    asym.edit_job(made["id"], notes="theirs")
    with pytest.raises(AsymError) as refused:
        asym.edit_job(made["id"], notes="ours", if_match=tag)
    assert refused.value.status == 412
    _, tag = asym.job_to_edit(made["id"])
    assert asym.edit_job(made["id"], notes="ours", if_match=tag)["notes"] == "ours"


def test_the_log_is_followed_and_a_checkpoint_fetched(
    asym: Asym, spec: dict[str, Any], database: Database, settings: Settings, tmp_path: Path
) -> None:
    job = asym.create_job(spec)
    work = Work(database)
    work.record(lines=["one"])
    content = {"model/config.json": b"{}", "model/deep/weights.safetensors": bytes(300_000), "state.json": b"{}"}
    folder = settings.artifacts / "jobs" / job["id"] / "attempts" / str(work.attempt) / "checkpoints" / "2"
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    files = {name: {"bytes": len(data), "sha256": ""} for name, data in content.items()}
    manifest = json.dumps({"format": 1, "step": 2, "files": files}).encode()
    (folder / "manifest.json").write_bytes(manifest)
    digest = hashlib.sha256(manifest).hexdigest()
    work.record(
        events.Checkpoint(time=0, step=2, path="checkpoints/2", bytes=1, manifest_sha256=digest, score=None),
        lines=["two"],
    )
    work.finish(JobStatus.SUCCEEDED)
    assert [line["line"] for line in asym.stream_logs(job["id"])] == ["one", "two"]
    fetched = asym.download_checkpoint(job["id"], 2, tmp_path / "models")
    assert fetched == tmp_path / "models" / f"{job['id']}-step2"
    assert (fetched / "deep/weights.safetensors").read_bytes() == content["model/deep/weights.safetensors"]
    assert sorted(path.name for path in fetched.iterdir()) == ["config.json", "deep"]
    with pytest.raises(AsymError) as gone:
        asym.download_checkpoint(job["id"], 3, tmp_path)
    assert gone.value.status == 404
