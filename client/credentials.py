"""Where the platform is and with which key: the only module of the client that reads the environment.

In order: what the caller passes, ASYM_API_URL and ASYM_API_KEY, then ASYM_HOME/credentials.json (ASYM_HOME is ~/.asym
unless set), which the first `asym up` on that home writes.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from client.errors import NoCredentials

DEFAULT_HOME = Path("~/.asym")


@dataclass(frozen=True)
class Credentials:
    api_url: str
    api_key: str
    dashboard_url: str | None = None

    def __repr__(self) -> str:  # a key must not end up in a log by way of a traceback
        return f"Credentials(api_url={self.api_url!r}, api_key='…', dashboard_url={self.dashboard_url!r})"


def home_folder(home: Path | str | None = None) -> Path:
    """The platform's folder, absolute: the argument, else ASYM_HOME, else ~/.asym. It need not exist."""
    return Path(home or os.environ.get("ASYM_HOME") or DEFAULT_HOME).expanduser().absolute()


def credentials_file(home: Path) -> Path:
    return home / "credentials.json"


def servers_of_ones_own() -> tuple[str | None, str | None]:
    """(database URL, broker URL) from the environment; None: use the embedded one."""
    return os.environ.get("ASYM_DATABASE_URL") or None, os.environ.get("ASYM_BROKER_URL") or None


def child_environment(home: Path, **changes: str) -> dict[str, str]:
    """The environment for a part of the platform that lives in `home`: this process's own, with `changes`."""
    # Without the safe path a folder `api` or `client` where somebody types `asym up` would be taken for ours.
    ours = {"ASYM_HOME": str(home), "PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1"}
    return {**os.environ, **ours, **changes}


def read_credentials(home: Path) -> Credentials | None:
    """What credentials.json says; None when there is none. NoCredentials when it cannot be read."""
    path = credentials_file(home)
    try:
        found = json.loads(path.read_text())
        return Credentials(found["api_url"], found["api_key"], found.get("dashboard_url"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NoCredentials(f"cannot read {path}", detail=f"{error}; delete it or mend it") from error


def write_credentials(home: Path, credentials: Credentials) -> None:
    """Replace credentials.json in one step, readable by its owner only."""
    path = credentials_file(home)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    content = {
        "api_url": credentials.api_url,
        "api_key": credentials.api_key,
        "dashboard_url": credentials.dashboard_url,
    }
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
    aside.replace(path)


def find_credentials(
    api_url: str | None = None, api_key: str | None = None, *, home: Path | str | None = None
) -> Credentials:
    """Settle URL and key. NoCredentials says what to set when one is missing."""
    folder = home_folder(home)
    # A home that is asked for by name is meant, whatever the environment points at.
    url = api_url or (None if home else os.environ.get("ASYM_API_URL"))
    key = api_key or (None if home else os.environ.get("ASYM_API_KEY"))
    filed = read_credentials(folder)
    if filed is not None:
        # The filed key belongs to the filed server: it is not for showing to another one.
        if key is None and (url is None or _same_server(url, filed.api_url)):
            key = filed.api_key
        url = url or filed.api_url
    if url is None:
        raise NoCredentials(
            "no Asym API is known here",
            detail=f"set ASYM_API_URL and ASYM_API_KEY, or run `asym up` (there is no {credentials_file(folder)})",
        )
    if key is None:
        raise NoCredentials(f"no API key for {url}", detail="set ASYM_API_KEY; `asym keys create` makes keys")
    dashboard = filed.dashboard_url if filed is not None and _same_server(url, filed.api_url) else None
    return Credentials(url.rstrip("/"), key, dashboard)


def _same_server(one: str, other: str) -> bool:
    return one.rstrip("/") == other.rstrip("/")
