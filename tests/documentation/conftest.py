"""A platform as `asym up` starts it, on which the commands of the documentation are run as they stand there."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from client import Asym
from client.front import free_port
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
SECONDS = 120.0
SHORT = {
    "steps: 150": "steps: 2",
    "steps: 100": "steps: 2",
    "every: 20": "every: 2",
    "diagnostics: {token_entropies: true}": "diagnostics: {every: 1}",
}
"""In the copies of examples/ that the commands work with: what makes their runs a matter of seconds."""


@dataclass(frozen=True)
class Platform:
    home: Path
    """Its ASYM_HOME; `.asym` of the user whose commands are run."""
    asym: Asym
    job: str
    """A job that succeeded, its last checkpoint of step 2."""
    other_job: str
    dataset: str
    sweep: str
    """Of two members, cancelled."""
    member: str
    key: str
    """Of that member; its id."""
    spare_port: int
    """That nothing listens on."""

    @property
    def environment(self) -> dict[str, str]:
        """A shell's: this user's home, our commands first, no setting of the outside."""
        rest = {name: value for name, value in os.environ.items() if not name.startswith("ASYM_")}
        path = f"{Path(sys.executable).parent}:{rest['PATH']}"
        # The pages' Python has warnings as anybody's has them.
        return {
            **rest,
            "HOME": str(self.home.parent),
            "PATH": path,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            "PIP_NO_INDEX": "1",
        }

    def clear(self) -> None:
        """End what a page's commands have left in the queue, so that the next page does not wait for it."""
        for status in ("queued", "running", "pausing", "paused"):
            for job in self.asym.jobs(status=[status]):
                self.asym.cancel(job["id"])
        wait_until(lambda: not list(self.asym.jobs(status=["cancelling"])), SECONDS, "a cancelled job's end")


def copy_examples(to: Path) -> None:
    """examples/ with runs of two steps."""
    shutil.copytree(ROOT / "examples", to, ignore=shutil.ignore_patterns("__pycache__", "tiny-results"))
    for path in to.rglob("*.yaml"):
        text = path.read_text()
        for long, short in SHORT.items():
            text = text.replace(long, short)
        path.write_text(text)


@pytest.fixture(scope="module")
def platform(models_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("user")
    home = folder / ".asym"
    home.mkdir(mode=0o700)
    (home / "models-cache").symlink_to(models_cache)
    outside = {name: value for name, value in os.environ.items() if not name.startswith("ASYM_")}
    api, dashboard = str(free_port()), str(free_port())
    output = folder / "up.log"
    with output.open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "client",
                "up",
                "--home",
                str(home),
                "--api-port",
                api,
                "--dashboard-port",
                dashboard,
            ],
            env={**outside, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: process.poll() is not None or "ready in" in output.read_text(), SECONDS, output.read_text)
        assert process.poll() is None, output.read_text()
        with Asym(home=home) as asym:
            yield _with_runs(home, asym, folder)
    finally:
        _stop(process)


def _with_runs(home: Path, asym: Asym, folder: Path) -> Platform:
    copy_examples(folder / "examples")
    spec = str(folder / "examples" / "tiny-arith.yaml")
    jobs = []
    for name in ("first", "second"):
        command = [sys.executable, "-m", "client", "submit", spec, "--name", name]
        ran = subprocess.run(
            command,
            env={**os.environ, "ASYM_HOME": str(home)},
            capture_output=True,
            text=True,
            check=True,
            timeout=SECONDS,
        )
        jobs.append(ran.stdout.strip())
    for job in jobs:
        ended = asym.wait(job, timeout=240)
        assert ended["status"] == "succeeded", ended["failure"]
    dataset, member = next(iter(asym.datasets(limit=1)))["id"], asym.add_member("somebody")["id"]
    plan = {"name": "plan", "base": asym.job(jobs[0])["spec"], "seeds": [0, 1],
            "search": {"kind": "list", "points": [{"optim.lr": 1e-4}]}}  # fmt: skip
    sweep = asym.cancel_sweep(asym.create_sweep(plan)["id"])["id"]
    key = asym.create_key("of somebody", member_id=member)["id"]
    return Platform(home, asym, *jobs, dataset, sweep, member, key, spare_port=free_port())


def _stop(process: subprocess.Popen[bytes]) -> None:
    family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
    for each in family:
        if each.is_running():
            each.kill()
