"""`python -m store.migrate`: bring the database's schema up to date and, the first time, make the first admin key.

The key is written to ASYM_HOME/credentials.json (mode 0600), together with the addresses, and only when there was no
key at all. Waits for a database that is not up yet.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from sqlalchemy.exc import OperationalError

from store import keys, schema
from store.access import Role
from store.database import Database
from store.errors import SettingsError
from store.metrics import pyramid
from store.secret import ServerSecret, server_secret
from store.settings import Settings

FIRST_TEAM = "default"
_WAIT_SECONDS = 30.0
_RETRY_SECONDS = 0.25


def wait_for(database: Database, seconds: float) -> None:
    """Until the database answers. sqlalchemy.exc.OperationalError when it does not within so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return database.ping()
        except OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)


def bootstrap(
    database: Database, credentials_file: Path, api_url: str, dashboard_url: str, secret: ServerSecret | None = None
) -> bool:
    """Make the first team and its admin key when there is no key at all. True when it did."""
    with database.transaction() as session:
        if not keys.claim_first(session):
            return False
        team = keys.create_team(session, FIRST_TEAM)
        _, plain = keys.create(session, team.id, "first admin key", Role.ADMIN, secret=secret)
        # Before the commit: a key that nobody can read must not be the one that stops another from being made.
        write_private(
            credentials_file, json.dumps({"api_url": api_url, "api_key": plain, "dashboard_url": dashboard_url}) + "\n"
        )
    return True


def write_private(path: Path, content: str) -> None:
    """Write a file that only this user may read: complete or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # made with mode 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m store.migrate", description=__doc__)
    parser.add_argument("--api-url", default="http://127.0.0.1:8000", help="written to credentials.json")
    parser.add_argument("--dashboard-url", default="http://127.0.0.1:8501", help="written to credentials.json")
    parser.add_argument("--draft", metavar="MESSAGE", help="write a new version from the difference to store/models/")
    parser.add_argument("--json", action="store_true", help="print what was done as one JSON object on stdout")
    options = parser.parse_args()
    try:
        settings = Settings.from_environment()
        url = settings.require_database_url()
        database = Database(url, pool_size=1)
        wait_for(database, _WAIT_SECONDS)
    except SettingsError as error:
        print(f"migrate: {error}", file=sys.stderr)
        return 2
    except OperationalError as error:
        print(f"migrate: no database after {_WAIT_SECONDS:g} s: {error.orig}", file=sys.stderr)
        return 1
    if options.draft:
        schema.draft(url, options.draft)
        return 0
    try:
        schema.upgrade(url)
    except schema.Unfit as error:
        print(f"migrate: {error}", file=sys.stderr)
        return 1
    with database.transaction() as session:
        print(f"migrate: the schema is at version {schema.current(session.connection())}", file=sys.stderr)
    if built := pyramid.catch_up(database):
        print(f"migrate: summed up the metrics of {built} jobs", file=sys.stderr)
    try:
        secret = server_secret(settings)
    except SettingsError as error:
        print(f"migrate: {error}", file=sys.stderr)
        return 2
    made = bootstrap(database, settings.credentials_file, options.api_url, options.dashboard_url, secret)
    if made:
        print(f"migrate: made the first admin key, written to {settings.credentials_file}", file=sys.stderr)
    with database.transaction() as session:
        if lost := keys.made_with_other_secrets(session, secret):
            print(
                f"migrate: {lost} keys were made with another secret than this one (ASYM_SECRET or "
                f"{settings.secret_file}) and open nothing: put the right one back, or make new keys",
                file=sys.stderr,
            )
    database.dispose()
    if options.json:
        print(json.dumps({"schema": schema.head(), "made_first_key": made}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
