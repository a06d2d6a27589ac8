"""`asym doctor` (python -m worker.doctor): looks at every part of the platform and says what is wrong and what to do.

Reads only, unless --delete-orphans is given. Exit status: 0 nothing is wrong (there may be warnings), 1 something is,
2 it cannot look (no settings).
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict

from kombu.exceptions import OperationalError as BrokerError
from sqlalchemy import func, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from store import doorbell, keys, orphans, schema, workers
from store.artifacts import Artifacts
from store.database import Database
from store.embedded.running import with_running_servers
from store.errors import SettingsError
from store.models import Job
from store.secret import server_secret
from store.settings import Settings
from store.status import LEASED, JobStatus
from worker import machine
from worker.finding import Check, Finding, size

CLOCK_SECONDS = 2.0
"""How far clocks may be apart before it is worth a word. Leases go by the database's clock alone."""
OVERDUE_LEASES = 3


class Doctor:
    """The checks, in the order in which one depends on another."""

    def __init__(self, settings: Settings, *, verify: bool, delete_orphans: bool) -> None:
        self._settings = settings
        self._verify = verify
        self._delete_orphans = delete_orphans
        self._artifacts = Artifacts(settings.artifacts)

    def findings(self) -> Check:
        yield from machine.look(self._settings)
        yield from self._broker()
        yield from self._database()

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
                if schema_found.level != "wrong":
                    yield from self._clock(session)
                    yield from self._keys(session)
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
        try:
            schema.check(session.connection())
        except schema.Unfit as error:
            older = current is None or current < head
            advice = "run `asym migrate`" if older else "update this installation of Asym"
            return Finding("wrong", "database", f"PostgreSQL {version}: {error}", advice)
        if current != head:
            message = f"PostgreSQL {version}, schema {current}, which still serves this program of {head}"
            return Finding("warning", "database", message, "finish the upgrade: update this installation of Asym")
        return Finding("ok", "database", f"PostgreSQL {version}, schema {current}")

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

    def _keys(self, session: Session) -> Check:
        """Whether this machine's secret opens them; a machine without one has no API."""
        if self._settings.secret is None and not self._settings.secret_file.exists():
            return
        try:
            lost = keys.made_with_other_secrets(session, server_secret(self._settings))
        except SettingsError as error:
            yield Finding("wrong", "keys", str(error), "the API does not start with it")
            return
        if lost:
            yield Finding(
                "wrong",
                "keys",
                f"{lost} open nothing: they were made with another secret than the one of here (ASYM_SECRET, or "
                f"{self._settings.secret_file})",
                "put the right one back from the backup, or make new keys",
            )

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
        held = session.scalar(select(func.count()).select_from(Job).where(Job.status.in_(LEASED)))
        if held and not overdue:
            yield Finding("ok", "leases", f"{held} held, none of them overdue")
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
            yield Finding("warning", "orphan", f"{orphan.path} ({size(orphan.bytes)}): {orphan.why}")
        if found:
            total = size(sum(orphan.bytes for orphan in found))
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


if __name__ == "__main__":
    sys.exit(main())
