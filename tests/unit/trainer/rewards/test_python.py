"""`python`: the user's code runs inside a sandbox that has been proved to hold, or it does not run."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from trainer.rewards import Permits, UnusableVerifierError, VerifierPool, VerifierUnavailableError, VerifyItem, sandbox
from trainer.rewards.sandbox import SandboxError

NAIVE = "def score(response, answer, metadata):\n    return float(response == answer)\n"


@pytest.fixture(scope="session")
def works() -> None:
    try:
        sandbox.prove(())
    except SandboxError as error:
        pytest.skip(f"no sandbox here: {error}")


@pytest.fixture
def pool(works, tmp_path: Path):
    """pool(code, seconds=60): a sandboxed pool that may not see tmp_path."""
    made: list[VerifierPool] = []

    def make(code: str, seconds: float = 60.0, **settings: object) -> VerifierPool:
        permits = Permits(sandbox="bubblewrap", private=(tmp_path, Path.home()))
        made.append(
            VerifierPool("python", 1, seconds, options={"code": code}, permits=permits, **settings)  # type: ignore[arg-type]
        )
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_without_a_sandbox_it_is_refused():
    with pytest.raises(UnusableVerifierError, match=r"needs a sandbox.*ASYM_SANDBOX=bubblewrap"):
        VerifierPool("python", options={"code": NAIVE})


def test_without_bwrap_it_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(VerifierUnavailableError, match="there is no bwrap on this machine"):
        VerifierPool("python", options={"code": NAIVE}, permits=Permits(sandbox="bubblewrap"))


def test_a_sandbox_that_does_not_work_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """As in a container without user namespaces."""
    bwrap = tmp_path / "bwrap"
    bwrap.write_text("#!/bin/sh\necho 'No permissions to create new namespace' >&2\nexit 1\n")
    bwrap.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(VerifierUnavailableError, match=r"does not work on this machine: No permissions"):
        VerifierPool("python", options={"code": NAIVE}, permits=Permits(sandbox="bubblewrap"))


def test_a_sandbox_that_does_not_hold_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A bwrap that runs its command without confining it: every leak is named."""
    bwrap = tmp_path / "bwrap"
    root = Path(__file__).parents[4]
    bwrap.write_text(
        f"#!{sys.executable}\nimport os, sys\n"
        f"start = sys.argv.index({sys.executable!r})\n"
        f"os.environ['PYTHONPATH'] = {str(root)!r}\n"
        "os.execv(sys.argv[start], sys.argv[start:])\n"
    )
    bwrap.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    private = tmp_path / "run"
    private.mkdir()
    (private / "checkpoint").touch()
    with pytest.raises(SandboxError, match="does not hold") as raised:
        sandbox.prove((private,))
    for leak in (
        "environment variable PATH",
        f"{private}/checkpoint is visible",
        "the host's network",
        "other processes",
    ):
        assert leak in str(raised.value)


def test_the_code_scores(pool):
    code = "import math, re, json\n" + NAIVE + "    # comments may follow\n"
    mine = pool(code)
    mine.require(["python"])
    verdicts = mine.score([VerifyItem("5", "5"), VerifyItem("", "5"), VerifyItem("Grüße", "Grüße")])
    assert [(verdict.reward, verdict.error) for verdict in verdicts] == [(1.0, None), (0.0, None), (1.0, None)]
    graded = pool("def score(response, answer, metadata):\n    return metadata['weight'] * 0.5\n")
    assert graded.score([VerifyItem("", "", metadata={"weight": 0.5})])[0].reward == 0.25


def test_inside_there_is_no_network_no_environment_no_file_and_nothing_to_write_to(pool, tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text("a run's own")
    code = f"""
import os, socket, json
def score(response, answer, metadata):
    found = []
    def tried(name, attempt):
        try:
            attempt()
        except OSError:
            return
        found.append(name)
    tried("network", lambda: socket.create_connection(("127.0.0.1", metadata["port"]), 5))
    tried("outside", lambda: socket.create_connection(("1.1.1.1", 53), 5))
    tried("run", lambda: open({str(secret)!r}))
    tried("home", lambda: open(os.path.join({str(Path.home())!r}, ".bashrc")))
    tried("passwd", lambda: open("/etc/passwd"))
    tried("proc", lambda: os.listdir("/proc"))
    for folder in ("/", "/usr", "/asym/trainer", "/dev", os.path.dirname(os.__file__)):
        tried("write " + folder, lambda: open(os.path.join(folder, "x"), "w"))
    open("/tmp/mine", "w").write("allowed, and gone with the process")
    found += [name for name in os.environ if name not in metadata["environment"]]
    if found:
        raise AssertionError(found)
    return 1.0
"""
    environment = ["PYTHONPATH", "PYTHONUTF8", "OMP_NUM_THREADS", "PYTHONDONTWRITEBYTECODE", "PWD", "LC_CTYPE"]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        metadata = {"port": listener.getsockname()[1], "environment": environment}
        [verdict] = pool(code).score([VerifyItem("", "", metadata=metadata)])
    assert (verdict.error, verdict.message, verdict.reward) == (None, "", 1.0)
    assert not Path("/tmp/mine").exists()  # noqa: S108


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("return None", "bad_reply"),
        ("return True", "bad_reply"),
        ("return '1.0'", "bad_reply"),
        ("return float('nan')", "bad_reply"),
        ("return 2.0", "bad_reply"),
        ("return -1", "bad_reply"),
        ("return [1.0]", "bad_reply"),
        ("raise KeyError('x')", "crashed"),
        ("raise SystemExit", "crashed"),
        ("return score(response, answer, metadata)", "crashed"),
        ("import os; os._exit(0)", "crashed"),
        ("import os; os.kill(os.getpid(), 11)", "crashed"),
        ("return [bytearray(2**24) for _ in range(10**6)]", "memory"),
        ("while True: pass", "timeout"),
        ("import os; [os.write(fd, b'x' * 60_000) for fd in (3, 3)]", "bad_reply"),
        ('import os; os.write(3, b\'{"id": 999, "reward": 1.0}\\n\'); return 1.0', "bad_reply"),
    ],
)
def test_code_that_does_wrong_costs_its_item_and_no_other(pool, body, error):
    code = f"def score(response, answer, metadata):\n    if response == 'good':\n        return 1.0\n    {body}\n"
    mine = pool(code, seconds=3.0 if error == "timeout" else 60.0, memory_bytes=2**29)
    bad, good = mine.score([VerifyItem("bad", ""), VerifyItem("good", "")])
    assert (bad.reward, bad.error) == (0.0, error)
    assert (good.reward, good.error) == (1.0, None)
    assert mine.counts == {error: 1}


def test_processes_that_the_code_starts_end_with_it(pool, wait_until):
    code = (
        "import os, time\n"
        "def score(response, answer, metadata):\n"
        "    if response == 'good':\n        return 1.0\n"
        "    if os.fork() == 0:\n        os.setsid()\n"
        "    while True:\n        pass\n"
    )
    limit = 2**29 + os.getpid()  # by which to know them among the processes of this machine
    mine = pool(code, seconds=3.0, memory_bytes=limit)

    def running() -> list[psutil.Process]:
        return [
            process for process in psutil.process_iter(["cmdline"]) if str(limit) in (process.info["cmdline"] or [])
        ]

    wait_until(running)
    bad, good = mine.score([VerifyItem("bad", ""), VerifyItem("good", "")])
    assert (bad.error, good.error) == ("timeout", None)
    mine.close()
    wait_until(lambda: not running())


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("def score(:", "SyntaxError"),
        ("def reward(response, answer, metadata):\n    return 1.0", "defines no function score"),
        ("score = 1.0", "defines no function score"),
        ("import torch_geometric_nowhere", "ModuleNotFoundError"),
        ("open('/etc/passwd')", "FileNotFoundError"),
        ("raise SystemExit(0)", "SystemExit"),
    ],
)
def test_code_that_does_not_load_is_said(pool, code, says):
    with pytest.raises(UnusableVerifierError, match=rf"reward\.options\.code does not load: .*{says}"):
        pool(code).require(["python"])


def test_the_probe_reports_what_it_finds():
    asked = {"environment": [], "port": 9, "hidden": ["/usr"], "read_only": [], "more": None}
    done = subprocess.run(
        [sys.executable, "-m", "trainer.rewards.sandbox_probe"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=True,
    )
    leaks = json.loads(done.stdout)["leaks"]
    assert "/usr is visible" in leaks
    assert "environment variable PATH" in leaks
