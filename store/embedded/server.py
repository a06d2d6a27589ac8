"""One server as a child process: what differs between Postgres and Valkey, and what is the same."""

import os
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from pathlib import Path

STOP_SECONDS = 20.0


def launch_command(command: list[str], orphan_signal: signal.Signals, user: str | None) -> list[str]:
    """The command that becomes `command` with a tie to the life of this process (see store.embedded.launch)."""
    # By its path and isolated: it must work from any folder and with any PYTHON* variable.
    launcher = [sys.executable, "-I", "-S", str(Path(__file__).with_name("launch.py"))]
    tie = ["--parent", str(os.getpid()), "--signal", str(int(orphan_signal)), *(["--user", user] if user else [])]
    return [*launcher, *tie, "--", *command]


class Server(ABC):
    """Started, watched and stopped from the main thread only: the kernel ties the child to the thread."""

    name: str
    stop_signal: signal.Signals
    orphan_signal: signal.Signals
    """What the kernel sends it when this process is gone."""
    user: str | None
    log_file: Path

    process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients connect. Stays the same for a home."""

    @abstractmethod
    def command(self) -> list[str]:
        """The server in the foreground."""

    @abstractmethod
    def prepare(self) -> None:
        """Everything that must be in place before the command runs."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether it answers."""

    def launch(self) -> None:
        """Start the process. It answers when `ready` says so."""
        self.prepare()
        self.log_file.parent.mkdir(mode=0o700, exist_ok=True)
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                launch_command(self.command(), self.orphan_signal, self.user),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                # A Ctrl-C in the terminal is for the supervisor, which stops the servers in its own order.
                start_new_session=True,
            )

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        """Stop it cleanly; kill it when that takes too long."""
        if self.process is None:
            return
        if self.running():
            self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            print(f"embedded: {self.name} did not stop within {STOP_SECONDS:g} s: killing it", file=sys.stderr)
            self.process.kill()
            self.process.wait()
        self.process = None

    def log_end(self) -> str:
        """The last lines of its log, for an error message."""
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-20:])
