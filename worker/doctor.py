"""`asym doctor` (python -m worker.doctor): looks at every part of the platform and says what is wrong and what to do.

Reads only, unless --delete-orphans is given. Exit status: 0 nothing is wrong (there may be warnings), 1 something is,
2 it cannot look (no settings).
"""

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from kombu.exceptions import OperationalError as BrokerError
from sqlalchemy import func, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from store import doorbell, orphans, schema, workers
from store.artifacts import Artifacts
from store.database import Database
from store.embedded.running import with_running_servers
from store.errors import SettingsError
from store.models import Job
from store.settings import GIB, Settings
from store.status import LEASED, JobStatus
from worker.slots import visible_gpus

Level = Literal["ok", "warning", "wrong"]

LOW_DISK_BYTES = 5 * GIB
CLOCK_SECONDS = 2.0
"""How far clocks may be apart before it is worth a word. Leases go by the database's clock alone."""
OVERDUE_LEASES = 3
PACKAGES = ("torch", "transformers", "vllm", "peft", "celery", "sqlalchemy", "fastapi", "streamlit")


@dataclass(frozen=True)
class Finding:
    level: Level
    about: str
    message: str
    advice: str = ""
    """What to do."""


Check = Iterator[Finding]


class Doctor:
    """The checks, in the order in which one depends on another."""

    def __init__(self, settings: Settings, *, verify: bool, delete_orphans: bool) -> None:
        self._settings = settings
        self._verify = verify
        self._delete_orphans = delete_orphans
        self._artifacts = Artifacts(settings.artifacts)

    def findings(self) -> Check:
        yield from self._versions()
        yield from self._gpus()
        yield from self._disk()
        yield from self._broker()
        yield from self._database()

    def _versions(self) -> Check:
        found = []
        for package in PACKAGES:
            try:
                found.append(f"{package} {importlib.metadata.version(package)}")
            except importlib.metadata.PackageNotFoundError:
                continue
        ours = importlib.metadata.version("asym-core")
        yield Finding("ok", "versions", f"asym {ours}, Python {platform.python_version()}, {', '.join(found)}")
        if not any(each.startswith("torch ") for each in found):
            yield Finding(
                "warning",
                "versions",
                "torch is not installed here",
                "workers need pip install 'asym-core[trainer]'",
            )

    def _gpus(self) -> Check:
        gpus = visible_gpus(os.environ)
        shown = f"{len(gpus)} visible: {', '.join(gpus)}" if gpus else "none visible; jobs run on the CPU here"
        yield Finding("ok", "gpus", shown)

    def _disk(self) -> Check:
        for about, folder in (("home", self._settings.home), ("artifacts", self._settings.artifacts)):
            place = next((path for path in (folder, *folder.parents) if path.exists()), Path("/"))
            free = shutil.disk_usage(place).free
            if not os.access(place, os.W_OK):
                yield Finding("wrong", about, f"{place} cannot be written to", "give it to the user Asym runs as")
            elif free < LOW_DISK_BYTES:
                yield Finding(
                    "warning",
                    about,
                    f"{folder}: only {_size(free)} free",
                    "delete jobs or data sets that are not needed; jobs pause when a checkpoint does not fit",
                )
            else:
                yield Finding("ok", about, f"{folder}: {_size(free)} free")

    def _broker(self) -> Check:
        url = self._settings.broker_url
        if url is None:
            yield Finding("wrong", "broker", "no broker is known", "start `asym up`, or set ASYM_BROKER_URL")
            return
        try:
            doorbell.ping(url.get_secret_value())
            yield Finding("ok", "broker", "answers")
        except (BrokerError, OSError) as error:
            yield Finding(
                "wrong", "broker", f"does not answer: {error}", "jobs start late until it does; nothing is lost"
            )

    def _database(self) -> Check:
        if self._settings.database_url is None:
            yield Finding("wrong", "database", "no database is known", "start `asym up`, or set ASYM_DATABASE_URL")
            return
        database = Database(self._settings.database_url.get_secret_value(), pool_size=1)
        try:
            with database.transaction() as session:
                schema_found = self._schema(session)
                yield schema_found
                if schema_found.level == "ok":
                    yield from self._clock(session)
                    yield from self._workers(session)
                    yield from self._jobs(session)
                    yield from self._files(session)
        except SQLAlchemyError as error:
            message = str(error).partition("\n")[0]
            yield Finding("wrong", "database", f"does not answer as it should: {message}", "is it up, and reachable?")
        finally:
            database.dispose()

    def _schema(self, session: Session) -> Finding:
        version = session.scalar(text("SHOW server_version"))
        current, head = schema.current(session.connection()), schema.head()
        if current == head:
            return Finding("ok", "database", f"PostgreSQL {version}, schema {current}")
        return Finding(
            "wrong",
            "database",
            f"PostgreSQL {version} has schema {current or 'none'}; this program needs {head}",
            "run `asym migrate`" if current is None or current < head else "update this installation of Asym",
        )

    def _clock(self, session: Session) -> Check:
        before = time.time()
        theirs = session.scalars(select(func.extract("epoch", func.clock_timestamp()))).one()
        apart = float(theirs) - (before + time.time()) / 2
        if abs(apart) > CLOCK_SECONDS:
            yield Finding(
                "warning",
                "clock",
                f"this machine's clock is {apart:+.1f} s from the database's",
                "times in logs will not fit together; leases are not affected (is NTP running?)",
            )
        else:
            yield Finding("ok", "clock", f"{apart:+.3f} s from the database's")

    def _workers(self, session: Session) -> Check:
        alive = workers.list_all(session)
        if alive:
            gpus = sum(worker.gpus for worker in alive)
            yield Finding("ok", "workers", f"{len(alive)} alive with {gpus} GPUs in all")
        else:
            yield Finding("wrong", "workers", "none is alive: no job can start", "start one: `asym worker`")
        versions = sorted({worker.version for worker in alive})
        if len(versions) > 1:
            yield Finding(
                "warning",
                "workers",
                f"of different versions: {', '.join(versions)}",
                "finish the upgrade of the others",
            )

    def _jobs(self, session: Session) -> Check:
        grace = func.make_interval(0, 0, 0, 0, 0, 0, OVERDUE_LEASES * self._settings.lease_seconds)
        overdue = session.scalars(
            select(Job.id).where(Job.status.in_(LEASED), Job.lease_until < func.clock_timestamp() - grace)
        ).all()
        if overdue:
            yield Finding(
                "wrong",
                "jobs",
                f"{', '.join(overdue)}: the lease ran out long ago and nobody has taken the job back",
                "the API and every worker sweep; is one of them running, and not stuck?",
            )
        counted = dict(
            session.execute(select(Job.status, func.count()).where(Job.deleted_at.is_(None)).group_by(Job.status)).all()
        )
        shown = ", ".join(f"{counted[status]} {status}" for status in JobStatus if status in counted)
        yield Finding("ok", "jobs", shown or "none yet")

    def _files(self, session: Session) -> Check:
        missing = list(orphans.missing_files(session, self._artifacts, verify=self._verify))
        for each in missing:
            yield Finding(
                "wrong",
                each.kind,
                f"{each.id}: {each.path}: {each.why}",
                "bring it back from a backup; a job goes on from the checkpoint before by itself"
                if each.kind == "checkpoint"
                else "upload the same file again: the data set's id stays good",
            )
        found = list(orphans.orphan_files(session, self._artifacts))
        for orphan in found:
            yield Finding("warning", "orphan", f"{orphan.path} ({_size(orphan.bytes)}): {orphan.why}")
        if found:
            total = _size(sum(orphan.bytes for orphan in found))
            if self._delete_orphans:
                yield self._deleted(session, found, total)
            else:
                yield Finding("warning", "orphans", f"{total} in all", "`asym doctor --delete-orphans` deletes them")
        elif not missing:
            depth = "every byte of" if self._verify else "the manifests of"
            yield Finding("ok", "files", f"data sets and {depth} checkpoints are as the database knows them")

    def _deleted(self, session: Session, found: list[orphans.OrphanFile], total: str) -> Finding:
        kept = []
        for orphan in found:
            try:
                orphans.delete(session, self._artifacts, orphan)
            except OSError as error:
                kept.append(f"{orphan.path}: {error.strerror}")
        if kept:
            return Finding("warning", "orphans", f"could not be deleted: {'; '.join(kept)}", "whose are they?")
        return Finding("ok", "orphans", f"deleted, {total} in all")


def main(argv: list[str] | None = None, out: Callable[[str], object] = print) -> int:
    parser = argparse.ArgumentParser(
        prog="asym doctor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--verify", action="store_true", help="read every byte of data sets and checkpoints")
    parser.add_argument("--delete-orphans", action="store_true", help="delete the files that nothing needs")
    parser.add_argument("--json", action="store_true", help="one JSON array instead of lines")
    arguments = parser.parse_args(argv)
    try:
        settings = with_running_servers(Settings.from_environment())
    except SettingsError as error:
        print(f"doctor: {error}", file=sys.stderr)
        return 2
    doctor = Doctor(settings, verify=arguments.verify, delete_orphans=arguments.delete_orphans)
    findings = []
    for finding in doctor.findings():
        findings.append(finding)
        if not arguments.json:
            out(f"{finding.level:<8} {finding.about:<11} {finding.message}")
            if finding.advice:
                out(f"{'':<20} -> {finding.advice}")
    if arguments.json:
        out(json.dumps([asdict(finding) for finding in findings], indent=1))
    return int(any(finding.level == "wrong" for finding in findings))


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


if __name__ == "__main__":
    sys.exit(main())
