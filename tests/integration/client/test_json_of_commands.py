"""Every command's --json, against the real API: one document on stdout, or lines of them, and nothing else.

The commands are found by walking the typer app: one that nobody typed here fails the first test.
"""

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client import Asym
from client.cli import main
from store.database import Database
from store.settings import Settings
from store.status import JobStatus
from tests.integration.client.conftest import Work
from tests.unit.client.walk import SERVERS, commands
from trainer.spec import events

TYPED_HERE = {
    "submit", "jobs", "edit", "queue", "workers", "cancel", "pause", "resume", "clone", "retry", "delete", "watch",
    "logs", "metrics", "compare", "checkpoints", "rollouts", "export", "audit", "mirror", "migrate", "doctor", "teams",
    "datasets upload", "datasets list", "datasets show", "keys create", "keys list", "keys rotate", "keys revoke",
    "members list", "members add", "members change", "members remove",
    "sweeps submit", "sweeps list", "sweeps show", "sweeps cancel", "sweeps pause", "sweeps resume",
}  # fmt: skip
WEBHOOKS = ("create", "list", "show", "edit", "rotate", "test", "replay", "delete")
TYPED_ELSEWHERE = {
    **{"backup": "../worker/test_backup.py", "restore": "../worker/test_backup.py"},
    "sample": "../../unit/client/test_sampling.py",
    **{"up": "test_up.py", "demo": "test_up.py", "train": "test_train.py", "eval": "test_eval.py"},
    **{f"webhooks {command}": "test_webhooks.py" for command in WEBHOOKS},
}
"""They start a platform or a trainer, call a receiver, or want a model that somebody serves."""


def test_every_command_is_typed_somewhere() -> None:
    assert set(commands()) == TYPED_HERE | set(TYPED_ELSEWHERE) | SERVERS
    for file in TYPED_ELSEWHERE.values():
        assert '"--json"' in (Path(__file__).parent / file).read_text()


@pytest.fixture
def typed(
    api_url: str, asym: Asym, key: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    """typed("datasets list"): what --json of the command prints, read. lines=True: each line of it."""
    monkeypatch.setenv("ASYM_API_URL", api_url)
    monkeypatch.setenv("ASYM_API_KEY", key)

    def type_in(words: str, *arguments: object, lines: bool = False, code: int = 0) -> Any:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([*words.split(), *map(str, arguments), "--json"])
        said = capsys.readouterr()
        assert ended.value.code == code, said.err
        return [json.loads(line) for line in said.out.splitlines()] if lines else json.loads(said.out)

    return type_in


@pytest.fixture
def ended_job(asym: Asym, spec: dict[str, Any], database: Database, settings: Settings) -> str:
    """A job that has left something of everything."""
    job_id = asym.create_job(spec)["id"]
    work = Work(database)
    content = {"model/config.json": b"{}", "state.json": b"{}"}
    folder = settings.artifacts / "jobs" / job_id / "attempts" / "1" / "checkpoints" / "2"
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    files = {name: {"bytes": len(data), "sha256": ""} for name, data in content.items()}
    manifest = json.dumps({"format": 1, "step": 2, "files": files}).encode()
    (folder / "manifest.json").write_bytes(manifest)
    rollout = events.Rollout(
        group=0, sample=1, row=3, prompt="1+1=", completion="2", answer="2", reward=1.0, correct=True, advantage=0.5,
        tokens=2, truncated=False, entropy=0.1,
    )  # fmt: skip
    work.record(
        events.Step(time=time.time(), step=1, metrics={"group/accuracy": 0.25}),
        events.Rollouts(time=time.time(), step=1, rollouts=[rollout]),
        events.Checkpoint(
            time=0, step=2, path="checkpoints/2", bytes=1, score=None,
            manifest_sha256=hashlib.sha256(manifest).hexdigest(),
        ),
        lines=["one", "two"],
    )  # fmt: skip
    work.finish(JobStatus.SUCCEEDED)
    return job_id


def test_jobs(typed: Callable[..., Any], asym: Asym, spec: dict[str, Any], tmp_path: Path, additions: Path) -> None:
    path = tmp_path / "spec.json"
    path.write_text(json.dumps({**spec, "data": {"train": additions.name}}))
    job = typed("submit", path)["id"]
    assert typed("submit", path, "--dry-run")["queue"]["position"] == 2
    assert [each["id"] for each in typed("jobs")] == [job]
    assert typed("edit", job, "--tag", "x")["tags"] == ["x"]
    assert [each["id"] for each in typed("queue")] == [job]
    assert typed("workers") == []
    assert typed("pause", job)["status"] == "paused"
    assert typed("resume", job)["status"] == "queued"
    assert typed("cancel", job)["status"] == "cancelled"
    other = typed("clone", job, "--name", "other")
    assert (other["name"], other["cloned_from"]) == ("other", job)
    assert typed("retry", job)["retry_of"] == job
    asym.cancel(other["id"])
    assert typed("delete", other["id"]) == {"id": other["id"], "deleted": True}
    assert typed("watch", job, lines=True, code=1)[-1]["status"] == "cancelled"
    again = typed("clone", job, "--set", "seed=3")["id"]
    asym.cancel(again)
    assert {each["job_id"] for each in typed("watch", job, again, lines=True, code=1)} == {job, again}
    assert all(each["object"] for each in typed("audit"))


def test_what_a_job_leaves_behind(
    typed: Callable[..., Any], asym: Asym, ended_job: str, spec: dict[str, Any], tmp_path: Path
) -> None:
    assert [each["line"] for each in typed("logs", ended_job)] == ["one", "two"]
    assert [each["line"] for each in typed("logs", ended_job, "--follow", lines=True)] == ["one", "two"]
    assert typed("metrics", ended_job)["keys"]["group/accuracy"] == {"step": [1], "value": [0.25]}
    other = asym.create_job(spec)["id"]
    assert list(typed("compare", ended_job, other)["jobs"]) == [ended_job, other]
    assert typed("checkpoints", ended_job)[0]["step"] == 2
    fetched = typed("checkpoints", ended_job, "--download", 2, "--to", tmp_path / "models")
    assert (Path(fetched["folder"]) / "config.json").exists()
    assert typed("export", ended_job, tmp_path / "model")["step"] == 2
    assert typed("rollouts", ended_job)[0]["completion"] == "2"
    (last,) = typed("watch", ended_job, lines=True)
    assert (last["status"], last["metrics"]) == ("succeeded", {"group/accuracy": 0.25})
    target = f"tensorboard:{tmp_path / 'board'}"
    assert typed("mirror", target, ended_job) == {"target": target, "jobs": [ended_job], "not_told": []}


def test_data_sets_keys_members_and_sweeps(
    typed: Callable[..., Any], spec: dict[str, Any], tmp_path: Path, additions: Path
) -> None:
    dataset = typed("datasets upload", additions, "--name", "sums")
    assert dataset["rows"] == 64
    assert dataset["id"] in [each["id"] for each in typed("datasets list")]
    assert len(typed("datasets show", dataset["id"])["preview"]) == 3

    made = typed("keys create", "ci")
    rotated = typed("keys rotate", made["id"])
    assert rotated["rotated_from"] == made["id"]
    assert typed("keys revoke", rotated["id"]) == {"id": rotated["id"], "revoked": True}
    assert {made["id"], rotated["id"]} < {each["id"] for each in typed("keys list")}

    member = typed("members add", "ann")["id"]
    assert typed("members change", member, "--role", "viewer")["role"] == "viewer"
    assert member in [each["id"] for each in typed("members list")]
    assert typed("members remove", member) == {"id": member, "removed": True}

    search = {"kind": "grid", "parameters": {"algorithm.beta_pos": [0.9]}}
    base = {**spec, "data": {"train": additions.name}}
    plan = {"name": "seeds", "base": base, "search": search, "seeds": [1, 2]}
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan))
    sweep = typed("sweeps submit", path)["id"]
    assert [each["id"] for each in typed("sweeps list")] == [sweep]
    assert len(typed("sweeps show", sweep)["jobs"]) == 2
    assert typed("sweeps pause", sweep)["statuses"] == {"paused": 2}
    assert typed("sweeps resume", sweep)["statuses"] == {"queued": 2}
    assert typed("sweeps cancel", sweep)["statuses"] == {"cancelled": 2}


def test_the_operator_s_tools(environment: dict[str, str]) -> None:
    def run(*arguments: str) -> str:
        argv = [sys.executable, "-m", "client", *arguments]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode in (0, 1), done.stderr
        return done.stdout

    assert json.loads(run("migrate", "--json"))["made_first_key"] is True
    assert json.loads(run("migrate", "--json"))["made_first_key"] is False
    (team,) = [json.loads(line) for line in run("teams", "list", "--json").splitlines()]
    assert team["name"] == "default"
    assert {"database"} <= {finding["about"] for finding in json.loads(run("doctor", "--json"))}
