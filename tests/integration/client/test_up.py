"""`asym up` as it is: the real platform, started by the real command, used by it, and killed in every way."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest

from client import Asym, AsymError
from client.front import free_port, is_up
from handbook import blocks
from store.database import Database
from tests.waiting import wait_until

WriteSpec = Callable[..., Path]
START_SECONDS = 120.0
STOP_SECONDS = 90.0


@dataclass
class Platform:
    """An `asym up` of a test."""

    home: Path
    environment: dict[str, str]
    models_cache: Path
    arguments: list[str] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None

    @property
    def output(self) -> str:
        path = self.home.with_suffix(".out")
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def supervisor(self) -> psutil.Process:
        (child,) = [each for each in psutil.Process(self.pid).children() if "client.up" in each.cmdline()]
        return child

    def part(self, module: str) -> psutil.Process:
        """The process of `python -m MODULE`."""
        (found,) = [each for each in self.supervisor.children() if each.cmdline()[1:3] == ["-m", module]]
        return found

    def start(self, *options: str) -> None:
        ports = ["--api-port", str(free_port()), "--dashboard-port", str(free_port())]
        self.arguments = ["up", "--home", str(self.home), *ports, *options]
        with self.home.with_suffix(".out").open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "client", *self.arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def wait_until_ready(self) -> None:
        def ready() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.output
            return "ready in" in self.output

        wait_until(ready, START_SECONDS, lambda: f"ready; so far:\n{self.output}")
        # Only now: an empty home is part of what is tested.
        (self.home / "models-cache").symlink_to(self.models_cache)

    def wait(self) -> int:
        """Wait for the command's end: its exit code."""
        assert self.process is not None
        return self.process.wait(STOP_SECONDS)

    def processes(self) -> list[psutil.Process]:
        """Every process of this platform, wherever it hangs: known by its ASYM_HOME, or by the home on its line."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                mine = process.environ().get("ASYM_HOME") == str(self.home) or any(
                    str(self.home) in argument for argument in process.cmdline()
                )
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            if mine and process.pid != os.getpid():
                found.append(process)
        return found

    def assert_nothing_left(self) -> None:
        wait_until(lambda: not self.processes(), STOP_SECONDS, lambda: f"an end of {self.processes()}")

    def cli(self, *arguments: str, timeout: float = 240.0) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "client", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def asym(self) -> Asym:
        return Asym(home=self.home)

    def readyz(self) -> int | None:
        with self.asym() as asym:
            try:
                return httpx.get(f"{asym.api_url}/readyz", timeout=5).status_code
            except httpx.TransportError:
                return None

    def clean_up(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
        for process in self.processes():
            process.kill()


def new_platform(home: Path, models_cache: Path) -> Platform:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ASYM_")}
    return Platform(home, {**environment, "ASYM_HOME": str(home)}, models_cache)


@pytest.fixture
def fresh_platform(tmp_path: Path, models_cache: Path) -> Iterator[Platform]:
    """Not yet started; whatever is left of it in the end is killed."""
    platform = new_platform(tmp_path / "home", models_cache)
    yield platform
    platform.clean_up()


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, models_cache: Path) -> Iterator[Platform]:
    """Up and ready, shared by the module."""
    platform = new_platform(tmp_path_factory.mktemp("platform") / "home", models_cache)
    platform.environment["ASYM_MIRRORS"] = f"tensorboard:{platform.home / 'tensorboard'} nonsense:x"
    platform.start()
    try:
        platform.wait_until_ready()
        yield platform
    finally:
        platform.clean_up()


def test_the_home_and_the_key_are_private_and_it_says_where_everything_is(platform: Platform) -> None:
    with platform.asym() as asym:
        assert platform.readyz() == 200
        assert httpx.get(f"{asym.dashboard_url}/").status_code == 200
        assert asym.me()["role"] == "admin"
        for said in (asym.api_url, asym.dashboard_url, "credentials.json"):
            assert str(said) in platform.output
    assert stat.S_IMODE(platform.home.stat().st_mode) == 0o700
    assert stat.S_IMODE((platform.home / "credentials.json").stat().st_mode) == 0o600


def test_a_second_one_on_the_same_home_is_refused_plainly(platform: Platform) -> None:
    second = platform.cli("up", "--home", str(platform.home), "--api-port", str(free_port()))
    assert second.returncode == 3
    assert "already up" in second.stderr
    assert str(platform.pid) in second.stderr
    with platform.asym() as asym:
        assert asym.api_url in second.stderr
    assert platform.readyz() == 200


def test_a_job_by_the_command_line_from_files_to_completions(platform: Platform, write_spec: WriteSpec) -> None:
    spec = str(write_spec())
    submitted = platform.cli("submit", spec, "--watch")
    assert submitted.returncode == 0, submitted.stderr
    assert "uploaded sub/additions-train.jsonl: 2000 rows as ds_" in submitted.stderr
    assert "step 2/2" in submitted.stderr
    job = submitted.stdout.strip()
    told = platform.cli("submit", spec, "--dry-run")
    assert told.returncode == 0, told.stderr
    assert "queue     position 1, about to start" in told.stdout
    data = json.loads(platform.cli("datasets", "list", "--json").stdout)[0]["id"]
    shown = platform.cli("datasets", "show", data, "--model", "builtin/tiny-arith")
    assert shown.returncode == 0, shown.stderr
    assert "answers look like: " in shown.stdout
    assert "prompts in tokens of builtin/tiny-arith: " in shown.stdout
    assert "row 1: " in shown.stdout
    assert "s a step, from" in told.stdout

    listed = json.loads(platform.cli("jobs", "--json").stdout)
    assert [(each["id"], each["status"]) for each in listed if each["id"] == job] == [(job, "succeeded")]
    assert job in platform.cli("jobs").stdout

    columns = json.loads(platform.cli("metrics", job, "--json").stdout)["keys"]
    assert columns["group/accuracy"]["step"] == [1, 2]
    assert columns["eval/held-out/pass_at_k/1"]["step"] == [0, 2]
    assert platform.cli("metrics", job).stdout.splitlines()[0].split()[0] == "step"

    completions = json.loads(platform.cli("rollouts", job, "--json", "--limit", "3").stdout)
    assert len(completions) == 3
    assert set(completions[0]) >= {"prompt", "completion", "reward"}
    assert completions[0]["prompt"] in platform.cli("rollouts", job).stdout
    assert "checkpoint of step 2 written" in platform.cli("logs", job).stdout
    assert json.loads(platform.cli("checkpoints", job, "--json").stdout)[-1]["step"] == 2

    # Both mirrors of this platform began with it; the one that is none harmed nobody.
    events = platform.home / "tensorboard" / job
    wait_until(lambda: any(events.glob("events.out.tfevents.*")), 60, "TensorBoard's file of the job")
    wait_until(lambda: "nonsense:x is not told any more" in platform.output, 60, "the other mirror's end")


def test_a_job_that_is_cancelled_ends_watching_with_1(platform: Platform, write_spec: WriteSpec) -> None:
    spec = str(write_spec(steps=100_000))
    other, job = (json.loads(platform.cli("submit", spec, "--json").stdout)["id"] for _ in range(2))
    assert platform.cli("cancel", other).returncode == 0
    with subprocess.Popen(
        [sys.executable, "-m", "client", "watch", job], env=platform.environment, stderr=subprocess.PIPE, text=True
    ) as watching:
        assert watching.stderr is not None
        assert watching.stderr.readline()  # it has begun to watch
        assert platform.cli("cancel", job).returncode == 0
        rest = watching.stderr.read()
        assert watching.wait(STOP_SECONDS) == 1
    assert f"{job} cancelled" in rest

    listed = json.loads(platform.cli("jobs", "--json").stdout)
    assert [each["id"] for each in listed][:2] == [job, other]
    compared = platform.cli("compare", job, other, "--keys", "group/accuracy")
    assert all(each in compared.stdout for each in (job, other))


def test_the_examples_of_the_sdk_s_page_run_as_they_are(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(__file__).parents[3]
    (tmp_path / "examples").symlink_to(root / "examples")
    monkeypatch.chdir(tmp_path)
    for name in ("ASYM_API_URL", "ASYM_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ASYM_HOME", str(platform.home))
    examples = [block for block in blocks.of(root / "docs" / "sdk.md") if block.language == "python"]
    assert len(examples) == 6
    namespace: dict[str, object] = {}
    for block in examples:
        # Each line at its own number, for the traceback's sake.
        exec(compile("\n" * block.line + block.text, block.page, "exec"), namespace)  # noqa: S102 (our own page)
    said = capsys.readouterr().out
    assert "checkpoint of step 3\n" in said
    assert "[('succeeded', [1, 2, 3]), ('succeeded', [1, 2, 3])]" in said
    assert "422 Unprocessable" in said
    assert (tmp_path / "sums-model" / "config.json").exists()


def test_an_invalid_spec_is_2_and_names_the_field(platform: Platform, write_spec: WriteSpec) -> None:
    path = write_spec()
    spec = json.loads(path.read_text())
    spec["rollout"]["group_size"] = 1
    path.write_text(json.dumps(spec))
    refused = platform.cli("submit", str(path))
    assert refused.returncode == 2
    assert "rollout.group_size" in refused.stderr


def test_a_bad_data_set_is_2_and_names_its_lines(platform: Platform, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"prompt": "1+1=", "answer": "2"}\nnonsense\n{"prompt": "1+2="}\n')
    refused = platform.cli("datasets", "upload", str(bad))
    assert refused.returncode == 2
    assert "line 2" in refused.stderr
    assert "line 3" in refused.stderr


def test_keys_are_made_used_and_revoked(platform: Platform) -> None:
    made = platform.cli("keys", "create", "ci", "--role", "viewer", "--json")
    key = json.loads(made.stdout)
    assert key["id"] in platform.cli("keys", "list").stdout
    with platform.asym() as admin, Asym(admin.api_url, key["key"]) as viewer:
        assert viewer.me()["role"] == "viewer"
        assert platform.cli("keys", "revoke", key["id"]).returncode == 0
        with pytest.raises(AsymError) as refused:
            viewer.me()
        assert refused.value.status == 401


def test_a_killed_api_comes_back_and_that_is_said(platform: Platform) -> None:
    api = platform.part("api")
    api.kill()
    api.wait(STOP_SECONDS)
    wait_until(lambda: platform.readyz() == 200, START_SECONDS, "an API that answers again")
    assert platform.part("api").pid != api.pid
    assert "was killed by SIGKILL unasked, the first time; starting it again" in platform.output


def test_sigterm_stops_everything_in_order(platform: Platform) -> None:
    # Last of those on the shared platform: files keep their order.
    assert platform.process is not None
    platform.process.send_signal(signal.SIGTERM)
    assert platform.wait() == 0
    assert platform.processes() == []
    assert platform.output.rstrip().endswith("stopped")
    assert not is_up(platform.home)


def start_with_a_running_job(platform: Platform, spec: Path, *options: str) -> None:
    platform.start(*options)
    platform.wait_until_ready()
    job = platform.cli("submit", str(spec)).stdout.strip()
    with platform.asym() as asym:
        wait_until(lambda: asym.job(job)["progress"]["step"] > 0, START_SECONDS, f"a step of {job}")
    assert any("trainer" in process.cmdline() for process in platform.processes())


def test_kill_9_of_the_command_leaves_nothing_a_running_trainer_included(
    fresh_platform: Platform, write_spec: WriteSpec
) -> None:
    start_with_a_running_job(fresh_platform, write_spec(steps=100_000))
    os.kill(fresh_platform.pid, signal.SIGKILL)
    fresh_platform.assert_nothing_left()


def test_kill_9_of_the_supervisor_leaves_nothing_and_is_said(fresh_platform: Platform, write_spec: WriteSpec) -> None:
    start_with_a_running_job(fresh_platform, write_spec(steps=100_000), "--json")
    fresh_platform.supervisor.kill()
    assert fresh_platform.wait() == 1
    *lines, last = fresh_platform.output.splitlines()
    assert "supervisor was killed" in last
    (ready,) = [said for line in lines if (said := json.loads(line)).get("ready")]
    with fresh_platform.asym() as asym:
        assert (ready["api_url"], ready["dashboard_url"]) == (asym.api_url, asym.dashboard_url)
    assert fresh_platform.processes() == []


def test_sigterm_to_every_process_at_once_costs_the_job_nothing(
    fresh_platform: Platform, write_spec: WriteSpec
) -> None:
    """As a service manager or a container does: the servers stay until the worker's last checkpoint is stored."""
    start_with_a_running_job(fresh_platform, write_spec(steps=100_000))
    for process in fresh_platform.processes():
        try:
            process.terminate()
        except psutil.NoSuchProcess:
            continue
    assert fresh_platform.wait() == 0, fresh_platform.output
    assert fresh_platform.processes() == []
    fresh_platform.start()
    wait_until(lambda: fresh_platform.readyz() == 200, START_SECONDS, "an API that answers")
    with fresh_platform.asym() as asym:
        (job,) = asym.jobs()
        events = asym.events(job["id"])["data"]
        checkpoints = asym.checkpoints(job["id"])
    (again,) = [event for event in events if event["data"].get("status") == "queued" and event["attempt"] == 1]
    assert again["data"]["crashed"] is False
    stopped = max(event["data"]["step"] for event in events if event["type"] == "step" and event["attempt"] == 1)
    assert stopped in [checkpoint["step"] for checkpoint in checkpoints]


def test_a_start_that_fails_says_why_and_leaves_nothing(fresh_platform: Platform) -> None:
    fresh_platform.environment["ASYM_LEASE_SECONDS"] = "soon"
    fresh_platform.start()
    assert fresh_platform.wait() == 1
    assert "ASYM_LEASE_SECONDS" in fresh_platform.output
    assert fresh_platform.processes() == []


def test_servers_of_one_s_own_are_used_and_left_alone(
    environment: dict[str, str], home: Path, models_cache: Path, database: Database
) -> None:
    platform = Platform(home, environment, models_cache)
    try:
        platform.start()
        platform.wait_until_ready()
        assert platform.readyz() == 200
        parts = {process.cmdline()[2] for process in platform.supervisor.children()}
        assert parts == {"api", "worker", "dashboard"}
        os.kill(platform.pid, signal.SIGINT)
        assert platform.wait() == 0
        assert platform.processes() == []
    finally:
        platform.clean_up()
    database.ping()


@pytest.mark.timeout(1000)
def test_the_demo_teaches_the_model_says_so_and_leaves_nothing(fresh_platform: Platform) -> None:
    demo = fresh_platform.cli("demo", "--json", timeout=900)
    assert demo.returncode == 0, demo.stdout + demo.stderr
    (found,) = re.findall(r"([01]\.\d+) before, ([01]\.\d+) after", demo.stderr)
    before, after = map(float, found)
    assert after >= 2 * before > 0
    assert re.search(r"The run's page:  http://127\.0\.0\.1:\d+/run\?job=job_", demo.stderr)
    assert "informative entropy" in demo.stderr
    said = json.loads(demo.stdout)
    assert said["job"]["status"] == "succeeded"
    assert (f"{said['pass_at_1_before']:.3f}", f"{said['pass_at_1_after']:.3f}") == found
    assert fresh_platform.processes() == []
