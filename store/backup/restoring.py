"""`asym restore DIR` (python -m store.backup.restoring): a platform out of a backup, into an empty home.

Its servers are as for everything else: ASYM_DATABASE_URL (an empty database) where that is set, else an embedded one in
ASYM_HOME. Every file is checked against the backup's manifest, the schema brought to this version, and jobs that ran
when the backup was made are queued again, to go on from their checkpoints. Then `asym up`. What fails leaves nothing
behind. Exit status: 0 done, 1 it failed, 2 wrong usage.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, func, select, text, update
from sqlalchemy.exc import SQLAlchemyError

from store import leases, schema, tenancy
from store.artifacts import Artifacts
from store.backup import copying, dumps, manifest
from store.backup.manifest import BackupError, Manifest
from store.backup.reaching import database_of
from store.database import CONNECT_ARGUMENTS, Database, sqlalchemy_url
from store.errors import SettingsError
from store.metrics import pyramid
from store.models import Job, Worker
from store.secret import server_secret
from store.settings import Settings
from store.status import LEASED


def restore(settings: Settings, backup: Path) -> tuple[Manifest, int]:
    """Bring it back: its manifest, and how many jobs go on where they were. BackupError, SettingsError, OSError."""
    found = manifest.read(backup)
    if found.db_schema > schema.head():
        raise BackupError(
            f"the backup has schema {found.db_schema} and was made by Asym {found.asym}; this version goes up to "
            f"{schema.head()}: restore with that version or a newer one"
        )
    _refuse_what_is_there(settings)
    with _all_or_nothing(settings):
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, file in found.files.items():
            place = _place(settings, name)
            there = copying.copy(backup / name, place) if place is not None else copying.measure(backup / name)
            if there != file:
                raise BackupError(f"{backup / name} is not what was written to the backup (SHA-256 or size differs)")
        if found.secret_id is not None and server_secret(settings).id != found.secret_id:
            raise BackupError(
                "no key of the backup would open anything: it was made with another secret. "
                + ("Set ASYM_SECRET to the one of then" if manifest.SECRET not in found.files else "Unset ASYM_SECRET")
            )
        with database_of(settings) as url:
            _fill(url, backup / manifest.DATABASE)
            return found, _go_on(url)


def _refuse_what_is_there(settings: Settings) -> None:
    for folder in (settings.home, settings.artifacts):
        if folder.exists() and any(folder.iterdir()):
            raise BackupError(f"{folder} is not empty: a backup is restored into an empty home (set ASYM_HOME)")


def _place(settings: Settings, name: str) -> Path | None:
    """Where a file of the backup belongs; None for the dump, which is no file of a home."""
    if name == manifest.SECRET:
        return settings.secret_file
    if name == manifest.CREDENTIALS:
        return settings.credentials_file
    if name == manifest.DATABASE:
        return None
    return Artifacts(settings.artifacts).resolve(name.removeprefix(f"{manifest.ARTIFACTS}/"))


@contextmanager
def _all_or_nothing(settings: Settings) -> Iterator[None]:
    """Both folders are as empty as they were when something goes wrong."""
    try:
        yield
    except BaseException:
        for folder in (settings.home, settings.artifacts):
            for path in folder.iterdir() if folder.is_dir() else ():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise


def _fill(url: str, dump: Path) -> None:
    engine = create_engine(sqlalchemy_url(url), connect_args=CONNECT_ARGUMENTS)
    try:
        with engine.begin() as connection:
            tables = connection.scalar(
                text(
                    "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p') "
                    "AND relnamespace = to_regnamespace(quote_ident(current_schema()))"
                )
            )
            if tables:
                raise BackupError("the database is not empty: a backup is restored into a database of its own")
            number = connection.scalar(text("SELECT current_setting('server_version_num')::int"))
            # The dump's policies are for this role, which is the server's and in no dump.
            if not tenancy.role_is_there(connection):
                raise BackupError(
                    f"the role {tenancy.SERVING_ROLE} is missing and this user may not make it: an administrator makes "
                    "it and grants it (docs/security.md)"
                )
    finally:
        engine.dispose()
    dumps.restore(url, int(number or 0) // 10_000, dump)
    schema.upgrade(url)


def _go_on(url: str) -> int:
    """What was running is queued again in its old place, without a crash being counted, and nobody is at work."""
    database = Database(url, pool_size=1)
    try:
        pyramid.catch_up(database)
        with database.transaction() as session:
            held = session.execute(select(Job.id, Job.attempt).where(Job.status.in_(LEASED)).order_by(Job.id)).all()
            for job_id, attempt in held:
                leases.release(session, job_id, attempt, crashed=False, charged=True)
            session.execute(
                update(Worker)
                .where(Worker.stopped_at.is_(None), Worker.lost_at.is_(None))
                .values(lost_at=func.clock_timestamp())
            )
    finally:
        database.dispose()
    return len(held)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="asym restore", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="what `asym backup` made")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a line")
    arguments = parser.parse_args()
    folder: Path = arguments.folder.absolute()
    try:
        settings = Settings.from_environment()
        found, going_on = restore(settings, folder)
    except SettingsError as error:
        print(f"restore: {error}", file=sys.stderr)
        return 2
    except SQLAlchemyError as error:
        print(f"restore: the database does not answer as it should: {str(error).splitlines()[0]}", file=sys.stderr)
        return 1
    except (BackupError, OSError) as error:
        print(f"restore: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        about = {"home": str(settings.home), "made_at": found.made_at.isoformat(), "going_on": going_on}
        print(json.dumps({**about, "missing": found.missing}))
    else:
        print(f"{settings.home}: the platform as of {found.made_at}; {going_on} jobs go on from their checkpoints")
    for id, why in found.missing.items():
        print(f"restore: {id} was not in the backup: {why}", file=sys.stderr)
    print("start it: asym up", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
