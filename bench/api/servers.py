"""The processes that are measured: embedded servers in a temporary folder, an API on them, MLflow's tracking server."""

import http.client
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

START_SECONDS = 120.0


class Http:
    """One connection that is kept, and nothing around it: a client's own time is not what is measured."""

    def __init__(self, port: int, headers: Mapping[str, str]) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self._headers = dict(headers)

    def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, **headers: str
    ) -> tuple[int, Mapping[str, str], bytes]:
        """(status, headers, body). RuntimeError for an error."""
        if body is None:
            return self._send(method, path, None, headers)
        return self._send(method, path, json.dumps(body).encode(), {"Content-Type": "application/json", **headers})

    def upload(self, path: str, multipart: bytes, boundary: str) -> bytes:
        kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        return self._send("POST", path, multipart, kind)[2]

    def _send(
        self, method: str, path: str, content: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        sent = {**self._headers, **headers}
        try:
            self._connection.request(method, path, content, sent)
            response = self._connection.getresponse()
        except (http.client.RemoteDisconnected, BrokenPipeError):
            # The server has closed a connection on which nothing came for some seconds.
            self._connection.close()
            self._connection.request(method, path, content, sent)
            response = self._connection.getresponse()
        answer = response.read()
        if response.status >= 400:
            raise RuntimeError(f"{method} {path}: {response.status} {answer[:500]!r}")
        return response.status, {name.lower(): value for name, value in response.getheaders()}, answer

    def get(self, path: str, **headers: str) -> bytes:
        return self._send("GET", path, None, headers)[2]


@contextmanager
def embedded(home: Path) -> Iterator[tuple[str, str]]:
    """(database_url, broker_url) of Postgres and Valkey as `asym up` starts them: commits are flushed to disk."""
    process = subprocess.Popen(
        [sys.executable, "-m", "store.embedded", "--home", str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        if process.stdin is None or process.stdout is None:
            raise AssertionError("asked for as pipes")
        told = json.loads(process.stdout.readline())
        try:
            yield told["database_url"], told["broker_url"]
        finally:
            process.stdin.close()


@contextmanager
def api(home: Path, database_url: str, broker_url: str, environment: Mapping[str, str]) -> Iterator[tuple[int, int]]:
    """(port, process id) of `python -m api`."""
    ours = {
        "ASYM_HOME": str(home),
        "ASYM_DATABASE_URL": database_url,
        "ASYM_BROKER_URL": broker_url,
        "ASYM_ARTIFACTS": str(home / "artifacts"),
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ASYM_")}
    port = free_port()
    command = [sys.executable, "-m", "api", "--port", str(port)]
    with _running(command, {**kept, **ours, **environment}, home / "api.log") as process:
        _until_it_answers(process, port, "/readyz", home / "api.log")
        yield port, process.pid


@contextmanager
def mlflow(python: Path, folder: Path, backend: str, workers: int) -> Iterator[int]:
    """The port of `mlflow server`."""
    port = free_port()
    command = [str(python), "-m", "mlflow", "server", "--backend-store-uri", backend, "--port", str(port)]
    command += ["--workers", str(workers), "--artifacts-destination", str(folder / "artifacts")]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ASYM_", "PYTHON"))}
    environment = {
        **kept,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        # Or it starts half a dozen processes for jobs of its own, which take their share of the machine.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with _running(command, environment, folder / "mlflow.log", cwd=folder) as process:
        _until_it_answers(process, port, "/health", folder / "mlflow.log")
        yield port


@contextmanager
def _running(
    command: list[str], environment: Mapping[str, str], log: Path, cwd: Path | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _until_it_answers(process: "subprocess.Popen[bytes]", port: int, path: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            Http(port, {}).get(path)
            return
        except (OSError, http.client.HTTPException, RuntimeError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
                raise RuntimeError(f"no answer from port {port}; the end of its log:\n{tail}") from error
            time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def allow_open_files(count: int) -> None:
    """For this process and those that it starts. ValueError when the system does not allow so many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, max(hard, count)))
