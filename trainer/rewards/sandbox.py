"""Bubblewrap around a verifier's subprocess: no network, no environment, no files but Python's, nothing to write to.

The program sees /usr, the interpreter's prefixes and this package's folder, all read-only, a small /tmp of its own,
/dev/null and /dev/urandom; it has user, process, network, mount, IPC and host-name spaces of its own and no
capability. It dies with its parent. Whether all that holds on this machine is proved (`prove`) before it is used.
"""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from trainer.rewards.process import ROOT, VerifierUnavailableError, environment

TMP_BYTES = 16 * 2**20
_PACKAGE = "/asym"
_PROOF_SECONDS = 60
_MAX_CANARIES = 50


class SandboxError(VerifierUnavailableError):
    """The sandbox is missing, or does not hold. Nothing was run outside it."""


def command(*program: str) -> tuple[str, ...]:
    """The command that runs `python -P PROGRAM` inside. SandboxError when there is no bwrap."""
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise SandboxError("the sandbox is bubblewrap, but there is no bwrap on this machine: install bubblewrap")
    prefixes = [*dict.fromkeys((sys.base_prefix, sys.base_exec_prefix, sys.prefix))]
    shown = [path for path in prefixes if not Path(path).resolve().is_relative_to("/usr")]
    return (
        bwrap,
        *("--unshare-all", "--unshare-user", "--disable-userns", "--uid", "65534", "--gid", "65534"),
        *("--cap-drop", "ALL", "--die-with-parent", "--new-session", "--hostname", "sandbox"),
        *("--clearenv", *(part for name, value in _environment().items() for part in ("--setenv", name, value))),
        # First: this Python may itself lie below /tmp.
        *("--size", str(TMP_BYTES), "--tmpfs", "/tmp"),  # noqa: S108 - inside
        *("--ro-bind", "/usr", "/usr", "--ro-bind-try", "/lib", "/lib", "--ro-bind-try", "/lib64", "/lib64"),
        *("--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"),
        *(part for path in shown for part in ("--ro-bind", path, path)),
        *("--ro-bind", str(ROOT / "trainer"), f"{_PACKAGE}/trainer"),
        *("--dev-bind", "/dev/null", "/dev/null", "--dev-bind", "/dev/urandom", "/dev/urandom"),
        *("--remount-ro", "/", "--chdir", "/"),
        *(sys.executable, "-P", *program),
    )


def prove(private: Sequence[Path]) -> None:
    """SandboxError unless, inside, there is no network, no environment, nothing of `private`, nothing of this
    machine's temporary files, no other process, and nothing to write to but /tmp."""
    allowed = [Path(path).resolve() for path in ("/usr", sys.base_prefix, sys.base_exec_prefix, sys.prefix, ROOT)]
    with socket.create_server(("127.0.0.1", 0)) as listener, tempfile.NamedTemporaryFile() as canary:
        asked = {
            "environment": sorted(_environment()),
            "port": listener.getsockname()[1],
            "hidden": [
                canary.name,
                "/etc/passwd",
                *(path for folder in private for path in _canaries(folder, allowed)),
            ],
            "read_only": ["/", "/usr", "/dev", _PACKAGE, f"{_PACKAGE}/trainer", sys.prefix, sys.base_prefix],
        }
        try:
            done = subprocess.run(
                command("-m", "trainer.rewards.sandbox_probe"),
                input=json.dumps(asked),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_PROOF_SECONDS,
                cwd="/",
                env=environment(),
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SandboxError(f"the sandbox does not start: {error}") from error
    try:
        leaks = json.loads(done.stdout)["leaks"] if done.returncode == 0 else None
    except (ValueError, LookupError, TypeError):
        leaks = None
    if leaks is None:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}")[-500:]
        raise SandboxError(f"the sandbox does not work on this machine: {said}")
    if leaks:
        raise SandboxError(f"the sandbox does not hold on this machine: {'; '.join(map(str, leaks))}")


def _environment() -> dict[str, str]:
    return {"PYTHONPATH": _PACKAGE, "PYTHONUTF8": "1", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def _canaries(folder: Path, allowed: Sequence[Path]) -> list[str]:
    """Things in a folder that must not be seen inside: all but the way to what may be."""
    try:
        found = sorted(folder.resolve().iterdir())
    except OSError:
        return []
    hidden = [
        path
        for path in found
        if not any(path == shown or path in shown.parents or shown in path.parents for shown in allowed)
    ]
    return [str(path) for path in hidden[:_MAX_CANARIES]]
