"""`asym backup DIR` (python -m store.backup): the whole platform into a new folder, while it runs.

The database is dumped as one snapshot shows it. The files that its rows speak of never change once they are there, so
they may be copied after it; what retention could delete meanwhile is held by hard links, which are made right after the
snapshot. Was something deleted between the two, a newer snapshot is taken.
"""

import contextlib
import importlib.metadata
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import exists, select, text
from sqlalchemy.orm import Session

from store import orphans, schema
from store.artifacts import Artifacts
from store.backup import copying, dumps, manifest
from store.backup.manifest import BackupError, Manifest
from store.backup.pinning import pin, pins
from store.checkpoints import usable
from store.database import Database
from store.migrate import write_private
from store.models import Checkpoint, Dataset, Job, Key
from store.secret import server_secret
from store.settings import Settings

_SNAPSHOTS = 5
"""So many are taken until one is found whose files are all there; the last one is taken as it is."""


@dataclass(frozen=True)
class _Needed:
    """A file or folder that a row speaks of."""

    id: str
    path: str
    """Relative to the artifact root."""
    sha256: str
    """Of the data set's file, or of the checkpoint's manifest."""
    is_checkpoint: bool

    def wrong(self, place: Path) -> str | None:
        """What a look at it, without reading it all, says is the matter; None: nothing."""
        if self.is_checkpoint:
            return orphans.damage(place, self.sha256, verify=False)
        return None if place.is_file() else "the file is missing"

    def hashes(self, place: Path) -> dict[str, str]:
        """Path relative to the artifact root -> the SHA-256 that its content has to have."""
        if not self.is_checkpoint:
            return {self.path: self.sha256}
        listed = json.loads((place / "manifest.json").read_bytes())["files"]
        return {f"{self.path}/{name}": file["sha256"] for name, file in listed.items()}


def make(settings: Settings, database_url: str, destination: Path) -> Manifest:
    """Back up into `destination`, which must not be there yet. BackupError; OSError, as for a full disk.

    A backup that was cut off leaves `DESTINATION.partial`, which the next one to there clears away.
    """
    if destination.exists():
        raise BackupError(f"{destination} is there already: a backup goes into a new folder")
    partial = destination.with_name(f"{destination.name}.partial")
    _remove(partial)
    partial.mkdir(mode=0o700, parents=True)
    database = Database(database_url, pool_size=1)
    try:
        with pins(Artifacts(settings.artifacts).root) as pinned:
            needed, written = _snapshot_and_pins(settings, database, database_url, pinned, partial)
            _copy(needed, pinned, partial, written)
    finally:
        database.dispose()
    write_private(partial / manifest.NAME, written.model_dump_json(indent=1) + "\n")
    partial.rename(destination)
    return written


def _snapshot_and_pins(
    settings: Settings, database: Database, database_url: str, pinned: Path, partial: Path
) -> tuple[list[_Needed], Manifest]:
    """Dump a snapshot whose files are all held: what it needs, and the manifest so far."""
    artifacts = Artifacts(settings.artifacts)
    for more in reversed(range(_SNAPSHOTS)):
        _remove(pinned)
        with _snapshot(database) as session:
            needed = list(_needed(session, artifacts))
            missing = _pin(needed, artifacts, pinned)
            if not missing or not more:
                written = _write(settings, database_url, session, partial)
                written.missing.update(missing)
                return needed, written
    raise AssertionError("the last snapshot is always taken")


@contextmanager
def _snapshot(database: Database) -> Iterator[Session]:
    """One view of the database for as long as the block lasts, however long a dump takes."""
    with database.transaction(snapshot=True) as session:
        session.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        yield session


def _needed(session: Session, artifacts: Artifacts) -> Iterator[_Needed]:
    data = select(Dataset.id, Dataset.sha256, Dataset.format).where(Dataset.deleted_at.is_(None)).order_by(Dataset.id)
    seen = set()
    for id, sha256, format in session.execute(data):
        path = str(artifacts.dataset_path(sha256, format).relative_to(artifacts.root))
        if path not in seen:  # two teams may have the same content
            seen.add(path)
            yield _Needed(id, path, sha256, is_checkpoint=False)
    kept = (
        select(Checkpoint.job_id, Checkpoint.step, Checkpoint.path, Checkpoint.manifest_sha256)
        .join(Job, Job.id == Checkpoint.job_id)
        .where(usable(), Job.deleted_at.is_(None))
        .order_by(Checkpoint.job_id, Checkpoint.step)
    )
    for job_id, step, path, sha256 in session.execute(kept):
        yield _Needed(f"{job_id}@{step}", path, sha256, is_checkpoint=True)


def _pin(needed: list[_Needed], artifacts: Artifacts, pinned: Path) -> dict[str, str]:
    """Hold on to all of it: what was not there whole, and why."""
    missing = {}
    for each in needed:
        with contextlib.suppress(FileNotFoundError):  # retention was quicker; a folder may have come halfway
            pin(artifacts.root / each.path, pinned / each.path)
        if why := each.wrong(pinned / each.path):
            missing[each.id] = why
    return missing


def _write(settings: Settings, database_url: str, session: Session, folder: Path) -> Manifest:
    """The database and the secrets."""
    version, number, snapshot, now = session.execute(
        text(
            "SELECT current_setting('server_version'), current_setting('server_version_num')::int, "
            "pg_export_snapshot(), clock_timestamp()"
        )
    ).one()
    revision = schema.current(session.connection())
    if revision is None:
        raise BackupError("the database has no schema yet: there is nothing to back up")
    dumps.dump(database_url, number // 10_000, snapshot, folder / manifest.DATABASE)
    (folder / manifest.DATABASE).chmod(0o600)
    files = {manifest.DATABASE: copying.measure(folder / manifest.DATABASE)}
    for name, path in ((manifest.SECRET, settings.secret_file), (manifest.CREDENTIALS, settings.credentials_file)):
        # A secret that the environment brings is not ours to write down.
        if path.exists() and not (name == manifest.SECRET and settings.secret is not None):
            files[name] = copying.copy(path, folder / name)
    # Of a home without one none is made: the keys are another's then.
    known = settings.secret is not None or settings.secret_file.exists()
    hashed_with_one = session.scalar(select(exists().where(Key.secret_id.is_not(None))))
    return Manifest(
        made_at=now,
        asym=importlib.metadata.version("asym-core"),
        db_schema=revision,
        postgres=version,
        secret_id=server_secret(settings).id if known else None,
        files=files,
        missing={} if known or not hashed_with_one else {"the secret": f"there is no {settings.secret_file}"},
    )


def _copy(needed: list[_Needed], pinned: Path, folder: Path, written: Manifest) -> None:
    """What is there of it, into the backup. What turns out not to be what was once written is left out and named."""
    for each in needed:
        if each.id in written.missing:
            continue
        source = pinned / each.path
        paths = [path for path in sorted(source.rglob("*")) if path.is_file()] if source.is_dir() else [source]
        copied = {str(path.relative_to(pinned)): copying.copy(path, folder / _name(path, pinned)) for path in paths}
        if wrong := [path for path, sha256 in each.hashes(source).items() if copied[path].sha256 != sha256]:
            written.missing[each.id] = f"{wrong[0]}: its content is not what was written (SHA-256 differs)"
            for path in paths:
                (folder / _name(path, pinned)).unlink()
        else:
            written.files.update({f"{manifest.ARTIFACTS}/{path}": file for path, file in copied.items()})


def _name(path: Path, pinned: Path) -> str:
    return f"{manifest.ARTIFACTS}/{path.relative_to(pinned)}"


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
