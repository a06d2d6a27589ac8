"""What does not fit together between the tables and the artifact folder: files without rows, rows without files.

Only reads. Files that are young are left out: somebody may be about to write the row.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from store import checkpoints, datasets
from store.artifacts import Artifacts
from store.models import Checkpoint, Dataset, Job
from store.status import TERMINAL

YOUNG_SECONDS = 3600.0


@dataclass(frozen=True)
class OrphanFile:
    """Something on the disk that nothing in the database stands for."""

    path: str
    """Relative to the artifact root."""
    bytes: int
    why: str


@dataclass(frozen=True)
class MissingFile:
    """Something the database relies on that is not on the disk as it should be."""

    kind: Literal["data set", "checkpoint"]
    id: str
    """`ds_...`, or `job_...@STEP`."""
    path: str
    why: str


def orphan_files(session: Session, artifacts: Artifacts, *, older_than: float = YOUNG_SECONDS) -> Iterator[OrphanFile]:
    """Files and folders that can be deleted; `older_than`: seconds since they were last changed."""
    before = time.time() - older_than
    for path, why in (
        *_received(artifacts),
        *_unknown_data(session, artifacts),
        *_unknown_jobs(session, artifacts),
        *_unknown_checkpoints(session, artifacts),
    ):
        try:
            if path.stat().st_mtime < before:
                yield OrphanFile(str(path.relative_to(artifacts.root)), _size(path), why)
        except FileNotFoundError:  # somebody has tidied up since
            continue


def missing_files(session: Session, artifacts: Artifacts, *, verify: bool = False) -> Iterator[MissingFile]:
    """What jobs would look for in vain. `verify`: read every byte of every checkpoint, not only its manifest."""
    data = select(Dataset.id, Dataset.sha256, Dataset.format).where(Dataset.deleted_at.is_(None))
    for id, sha256, format in session.execute(data.order_by(Dataset.id)):
        path = artifacts.dataset_path(sha256, format)
        why = None if path.is_file() else "the file is missing"
        if why is None and verify and _sha256(path) != sha256:
            why = "its content is not what was uploaded (SHA-256 differs)"
        if why is not None:
            yield MissingFile("data set", id, str(path.relative_to(artifacts.root)), why)
    statement = (
        select(Checkpoint.job_id, Checkpoint.step, Checkpoint.path, Checkpoint.manifest_sha256)
        .join(Job, Job.id == Checkpoint.job_id)
        .where(checkpoints.usable(), Job.deleted_at.is_(None))
        .order_by(Checkpoint.job_id, Checkpoint.step)
    )
    for row in session.execute(statement):
        why = damage(artifacts.root / row.path, row.manifest_sha256, verify)
        if why is not None:
            yield MissingFile("checkpoint", f"{row.job_id}@{row.step}", row.path, why)


def delete(session: Session, artifacts: Artifacts, orphan: OrphanFile) -> None:
    """Delete it, unless a data set has come to need it since it was found. OSError."""
    path = artifacts.resolve(orphan.path)
    if path.parent.parent == artifacts.root / "datasets":
        with artifacts.content_lock(path.stem):
            if not datasets.blob_in_use(session, path.stem):
                path.unlink(missing_ok=True)
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _received(artifacts: Artifacts) -> Iterator[tuple[Path, str]]:
    for path in _listed(artifacts.root / "incoming"):
        yield path, "an upload that was cut off"


def _unknown_data(session: Session, artifacts: Artifacts) -> Iterator[tuple[Path, str]]:
    rows = session.execute(select(Dataset.sha256, Dataset.format).where(Dataset.deleted_at.is_(None)))
    known = {artifacts.dataset_path(row.sha256, row.format) for row in rows}
    for folder in _listed(artifacts.root / "datasets"):
        for path in _listed(folder):
            if path not in known:
                yield path, "no data set has this content"


def _unknown_jobs(session: Session, artifacts: Artifacts) -> Iterator[tuple[Path, str]]:
    folders = _listed(artifacts.root / "jobs")
    known = set(session.scalars(select(Job.id).where(Job.id.in_([path.name for path in folders]))))
    for path in folders:
        if path.name not in known:
            yield path, "no such job"


def _unknown_checkpoints(session: Session, artifacts: Artifacts) -> Iterator[tuple[Path, str]]:
    """Of jobs that have ended: those that have not may be writing one, and their next attempt tidies up."""
    ended = select(Job.id).where(Job.status.in_(TERMINAL), Job.tidied_at.is_not(None), Job.deleted_at.is_(None))
    for job_id in session.scalars(ended.order_by(Job.id)):
        found = artifacts.checkpoints_on_disk(job_id, artifacts.attempts_on_disk(job_id))
        if found:
            known = {each.path for each in checkpoints.newest_first(session, job_id)}
            for path in sorted(found - known):
                yield artifacts.root / path, "the job has ended and nothing starts from this checkpoint"


def damage(folder: Path, manifest_sha256: str, verify: bool) -> str | None:
    """What is wrong with a checkpoint's folder, in words; None: nothing. `verify`: read every byte."""
    try:
        manifest = (folder / "manifest.json").read_bytes()
    except OSError as error:
        return f"its manifest cannot be read: {error.strerror}"
    if hashlib.sha256(manifest).hexdigest() != manifest_sha256:
        return "its manifest is not the one that was written (SHA-256 differs)"
    for name, expected in json.loads(manifest)["files"].items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != expected["bytes"]:
            return f"{name} is missing or was cut"
        if verify and _sha256(path) != expected["sha256"]:
            return f"the content of {name} is not what was written (SHA-256 differs)"
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(path: Path) -> int:
    if not path.is_dir():
        return path.stat().st_size
    return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())


def _listed(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
