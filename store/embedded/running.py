"""For an operator's commands beside a running `asym up`: the addresses of the servers that it has started."""

import fcntl
from pathlib import Path

from pydantic import SecretStr

from store.settings import Settings


def with_running_servers(settings: Settings) -> Settings:
    """The settings, with the embedded servers of their home where they name none of their own and those run."""
    if settings.database_url is not None and settings.broker_url is not None:
        return settings
    if not running(settings.home):
        return settings
    # Here, for an installation without the extra `embedded` has neither of them.
    from store.embedded.postgres import Postgres
    from store.embedded.rundir import run_dir
    from store.embedded.valkey import Valkey

    home = settings.home.resolve()
    sockets = run_dir(home)
    return settings.model_copy(
        update={
            "database_url": settings.database_url or SecretStr(Postgres(home, sockets).url),
            "broker_url": settings.broker_url or SecretStr(Valkey(home, sockets).url),
        }
    )


def running(home: Path) -> bool:
    """Whether the embedded servers of this home run."""
    try:
        file = (home / "embedded.lock").open("r+")
    except FileNotFoundError:
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
