"""How rows of `jobs` lie on the disk, and how changes of them are written."""

from sqlalchemy import text

from store import leases
from store.models import Base

LONG = {"notes", "words"}
"""Texts that may be stored outside of the row. Lists and claims go through all others."""


def test_what_lists_and_claims_read_lies_in_the_row(database, queue_job):
    job_id = queue_job()
    columns = Base.metadata.tables["jobs"].columns
    short = [each.name for each in columns if str(each.type) in ("TEXT", "ARRAY") and each.name not in LONG]
    assert {"id", "team_id", "demand", "status", "tags"} <= set(short)
    with database.transaction() as session:
        outside = ", ".join(f"pg_column_toast_chunk_id({name}) IS NOT NULL" for name in short)
        row = session.execute(text(f"SELECT {outside} FROM jobs WHERE id = :id"), {"id": job_id}).one()  # noqa: S608
        assert dict(zip(short, row, strict=True)) == dict.fromkeys(short, False)
        assert session.scalar(text("SELECT pg_column_toast_chunk_id(spec) IS NOT NULL FROM jobs"))


# Of this connection, as far as they are not in the table's statistics yet.
_UPDATES = text("SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = 'jobs'")


def test_renewing_a_lease_and_recording_write_into_no_index(database, running):
    for number in range(1, 6):
        with database.transaction() as session:
            before = session.execute(_UPDATES).one_or_none() or (0, 0)
            leases.renew(session, running.job_id, running.attempt, 60)
            leases.record(session, running.job_id, running.attempt, [], [], batch=number)
            updated, hot = session.execute(_UPDATES).one()
        assert (updated - before[0], hot - before[1]) == (2, 2)
