"""How long the audit log remembers."""

from sqlalchemy import text

from store import audit
from store.audit import Deed


def test_it_is_pruned_by_age_a_thousand_at_a_time_and_only_when_asked(database):
    with database.transaction() as session:
        session.execute(
            text(
                "INSERT INTO audit_log (at, address, action, object, status) "
                "SELECT clock_timestamp() - make_interval(days => 402 - number % 2), '', '', '', 200 "
                "FROM generate_series(1, 1500) AS number"
            )
        )
        audit.record(session, Deed("::1", "test", "x", 200))
    with database.transaction() as session:
        assert audit.prune(session, 0) == 0
        assert [audit.prune(session, 400) for _ in range(3)] == [1000, 500, 0]
        assert session.scalars(text("SELECT action FROM audit_log")).all() == ["test"]
