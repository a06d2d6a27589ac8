"""The official client against a real server, with a real worker where jobs are to run."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from store.access import Role
from tests.integration.api.conftest import Starter

ROOT = Path(__file__).parents[3]
GRADER = {
    "type": "string_check",
    "name": "right",
    "operation": "eq",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
}


@pytest.fixture
def url(environment: dict[str, str], free_port: Callable[[], int], wait_until: Callable[..., Any]) -> Iterator[str]:
    """The address of a `python -m api`."""
    starter = Starter(environment, free_port, wait_until)
    try:
        yield starter()
    finally:
        starter.stop()


@pytest.fixture
def client_of(url: str) -> Iterator[Callable[[str], OpenAI]]:
    """client_of(key): the official client with this key. It tries nothing twice, so that errors are seen."""
    made: list[OpenAI] = []

    def make(plain: str) -> OpenAI:
        made.append(OpenAI(base_url=f"{url}/v1", api_key=plain, max_retries=0, timeout=30))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def key(make_key: Callable[..., Any]) -> Any:
    return make_key(Role.MEMBER)


@pytest.fixture
def client(client_of: Callable[[str], OpenAI], key: Any) -> OpenAI:
    return client_of(key.plain)


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def sums(field: str = "answer") -> bytes:
    """64 additions as chat messages with a reference."""
    return jsonl(
        [
            {"messages": [{"role": "user", "content": f"{a}+{b}="}], field: str(a + b), "difficulty": "easy"}
            for a in range(10, 18)
            for b in range(20, 28)
        ]
    )


def method(grader: dict[str, Any] | None = None, **hyperparameters: Any) -> dict[str, Any]:
    return {
        "type": "reinforcement",
        "reinforcement": {"grader": grader or GRADER, "hyperparameters": hyperparameters},
    }


@pytest.fixture
def upload(client: OpenAI) -> Callable[..., str]:
    """upload(content=sums()): the id of the file."""

    def send(content: bytes | None = None) -> str:
        return client.files.create(file=("train.jsonl", content or sums()), purpose="fine-tune").id

    return send


@pytest.fixture
def create(client: OpenAI, upload: Callable[..., str]) -> Callable[..., Any]:
    """create(**arguments): a job of 64 additions, 8 prompts a step."""

    def make(**arguments: Any) -> Any:
        given = {
            "model": "builtin/tiny-arith",
            "method": method(batch_size=8),
            "extra_body": {"asym": {"rollout": {"max_new_tokens": 4}, "resources": {"gpus": 0}}},
        } | arguments
        if "training_file" not in given:
            given["training_file"] = upload()
        return client.fine_tuning.jobs.create(**given)

    return make


@pytest.fixture
def worker(
    environment: dict[str, str], home: Path, tmp_path: Path, models_cache: Path
) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """worker(): start a real worker."""
    (home / "models-cache").symlink_to(models_cache)
    processes: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        with (tmp_path / "worker.log").open("ab") as log:
            command = [sys.executable, "-m", "worker", "--name", "one"]
            processes.append(subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log))
        return processes[-1]

    yield start
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait(timeout=60)
