"""`python -m store.embedded --home DIR`: Postgres and Valkey under DIR, until SIGTERM, SIGINT or the end of stdin.

Prints {"database_url": ..., "broker_url": ...} as one line when both answer. Exit status: 0 stopped as asked,
1 a server cannot be kept running, 3 another one runs on this home.
"""

import argparse
import fcntl
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from store.embedded.postgres import Postgres
from store.embedded.rundir import run_dir
from store.embedded.supervise import Supervisor
from store.embedded.valkey import Valkey
from store.settings import Settings

EXIT_FAILED = 1
EXIT_IN_USE = 3


class HomeInUse(RuntimeError):  # noqa: N818
    """Another process runs the servers of this home."""


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold `home/embedded.lock`. HomeInUse when another process does. The kernel lets go of it however we end."""
    path = home / "embedded.lock"
    path.touch(mode=0o600)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise HomeInUse(f"the servers of {home} already run (process {file.read().strip() or 'unknown'})") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m store.embedded", description=__doc__)
    parser.add_argument("--home", type=Path, help="default: ASYM_HOME")
    parser.add_argument("--leashed", action="store_true", help="stop at the end of stdin, and at no signal but SIGKILL")
    arguments = parser.parse_args()
    home: Path = arguments.home or Settings.from_environment().home
    home = home.expanduser().absolute()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    home = home.resolve()
    try:
        with locked(home):
            sockets = run_dir(home)
            postgres, valkey = Postgres(home, sockets), Valkey(home, sockets)
            addresses = {"database_url": postgres.url, "broker_url": valkey.url}
            ready = partial(print, json.dumps(addresses), flush=True)
            Supervisor([valkey, postgres], ready, leashed=arguments.leashed).run()
    except HomeInUse as error:
        print(f"embedded: {error}", file=sys.stderr)
        return EXIT_IN_USE
    except (OSError, RuntimeError) as error:
        print(f"embedded: {error}", file=sys.stderr)
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
