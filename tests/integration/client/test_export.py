"""`asym export` as a user types it: against a real API, and pushing to a server that speaks the hub's interface."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from store import leases, workers
from trainer.spec import events

TOKEN = "hf_not_a_real_one"
CONTENT = {"model/config.json": b"{}", "model/deep/model.safetensors": bytes(300_000), "state.json": b"{}"}


class Hub(ThreadingHTTPServer):
    """What `upload_folder` asks of a hub: a repository made, how files go, and the commit."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str | None]] = []
        self.files: dict[str, bytes] = {}
        super().__init__(("127.0.0.1", 0), _Hub)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Hub(BaseHTTPRequestHandler):
    server: Hub

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.command, self.path, self.headers.get("Authorization")))
        answer: dict[str, object] = {}
        if self.path == "/api/repos/create":
            answer = {"url": f"{self.server.url}/me/sums"}
        elif "/preupload/" in self.path:
            named = json.loads(body)["files"]
            answer = {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in named]}
        elif "/commit/" in self.path:
            for line in body.splitlines():
                each = json.loads(line)
                if each["key"] == "file":
                    self.server.files[each["value"]["path"]] = base64.b64decode(each["value"]["content"])
            answer = {"commitUrl": f"{self.server.url}/me/sums/commit/1", "commitOid": "1" * 40}
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = _answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub():
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def job_id(asym, spec, database, settings):
    """A job with checkpoints of steps 1, whose files are gone, and 2."""
    job = asym.create_job(spec)
    with database.transaction() as session:
        worker = workers.register(session, name="w", host="h", pid=1, gpus=0, cpu_slots=1, version="0")
    with database.transaction() as session:
        claim = leases.claim(session, worker.id, 0, 1, 60)
    assert claim is not None
    folder = settings.artifacts / "jobs" / job["id"] / "attempts" / "1" / "checkpoints" / "2"
    for name, data in CONTENT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    files = {name: {"bytes": len(data), "sha256": ""} for name, data in CONTENT.items()}
    manifest = json.dumps({"format": 1, "step": 2, "files": files}).encode()
    (folder / "manifest.json").write_bytes(manifest)
    digest = hashlib.sha256(manifest).hexdigest()
    written = [
        events.Checkpoint(time=0, step=step, path=f"checkpoints/{step}", bytes=1, manifest_sha256=digest, score=None)
        for step in (1, 2)
    ]
    with database.transaction() as session:
        leases.record(session, job["id"], 1, written, [], batch=1)
    return job["id"]


@pytest.fixture
def run(api_url, asym, key, tmp_path, hub):
    """run(*arguments, **environment): `asym ...` in an environment without any settings but these."""

    def start(*arguments, **environment):
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ASYM_", "HF_"))}
        ours = {"ASYM_API_URL": api_url, "ASYM_API_KEY": key, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path)}
        return subprocess.run(
            [sys.executable, "-m", "client", *map(str, arguments)],
            env=kept | ours | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return start


def test_a_checkpoint_becomes_the_folder_that_was_named(run, job_id, tmp_path):
    for written, name in ((f"{job_id}@2", "a"), (f"job/{job_id}@2", "b"), (job_id, "c")):
        done = run("export", written, tmp_path / name)
        assert (done.returncode, done.stdout) == (0, f"{tmp_path / name}\n"), done.stderr
        assert (tmp_path / name / "deep/model.safetensors").read_bytes() == CONTENT["model/deep/model.safetensors"]
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == ["config.json", "deep"]
    said = json.loads(run("export", job_id, tmp_path / "d", "--json").stdout)
    assert said == {"job_id": job_id, "step": 2, "folder": str(tmp_path / "d"), "pushed": None}


def test_what_cannot_be_exported_is_said_and_leaves_nothing(run, job_id, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    for arguments, code, words in (
        ((f"{job_id}@2", tmp_path / "full"), 1, "not an empty folder"),
        ((f"{job_id}@1", tmp_path / "new"), 4, "checkpoint"),
        ((f"{job_id}@7", tmp_path / "new"), 4, "checkpoint"),
        ((f"{job_id}@x", tmp_path / "new"), 2, "JOB@STEP"),
        ((f"{job_id}@2", tmp_path / "new", "--format", "adapter"), 5, "no LoRA adapter"),
        ((f"{job_id}@2", tmp_path / "new", "--push-to-hub", "me/sums"), 2, "HF_TOKEN"),
    ):
        done = run("export", *arguments)
        assert done.returncode == code, done.stderr
        assert words in done.stderr
    assert sorted(path.name for path in (tmp_path / "full").iterdir()) == ["mine"]
    assert not [path for path in tmp_path.iterdir() if "new" in path.name]


def test_it_is_pushed_from_this_machine_and_the_token_goes_to_the_hub_alone(run, job_id, tmp_path, hub):
    done = run("export", job_id, tmp_path / "a", "--push-to-hub", "me/sums", HF_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    assert "me/sums" in done.stderr
    assert TOKEN not in done.stdout + done.stderr
    assert hub.files == {name.removeprefix("model/"): data for name, data in CONTENT.items() if name != "state.json"}
    writes = ("/api/repos/create", "/preupload/", "/commit/")
    shown = {path: token for _, path, token in hub.asked if any(each in path for each in writes)}
    assert len(shown) == 3
    assert set(shown.values()) == {f"Bearer {TOKEN}"}
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
