"""API keys: only their hash is kept, and only a live one opens anything."""

import pytest
from sqlalchemy import text

from store import keys
from store.access import Role
from store.errors import Forbidden


def authenticate(database, plain):
    with database.transaction() as session:
        return keys.authenticate(session, plain)


def test_a_key_is_known_by_its_hash_only(database, make_key):
    key = make_key(Role.ADMIN)
    assert authenticate(database, key.plain) == key.identity
    with database.transaction() as session:
        (row,) = session.scalars(text("SELECT row_to_json(api_keys)::text FROM api_keys")).all()
        assert key.plain not in row
        assert key.plain.removeprefix("asym_") not in row
        (found,) = keys.list_page(session, key.identity, 10)
    assert key.plain.startswith(found.prefix)
    assert len(found.prefix) < 12


def test_wrong_and_revoked_keys_open_nothing(database, make_key):
    admin = make_key(Role.ADMIN)
    key = make_key(team_id=admin.identity.team_id)
    for wrong in ("", "asym_", key.plain[:-1], key.plain.upper(), key.plain + "a", "asym_\0", "asym_\ud800"):
        assert authenticate(database, wrong) is None
    with database.transaction() as session:
        ended = keys.revoke(session, admin.identity, key.identity.key_id).revoked_at
    assert ended is not None
    assert authenticate(database, key.plain) is None
    with database.transaction() as session:
        assert keys.revoke(session, admin.identity, key.identity.key_id).revoked_at == ended
    assert authenticate(database, admin.plain) == admin.identity


@pytest.mark.parametrize("role", [Role.VIEWER, Role.MEMBER])
def test_keys_are_for_admins(database, make_key, role):
    identity = make_key(role).identity
    with pytest.raises(Forbidden), database.transaction() as session:
        keys.list_page(session, identity, 10)
    with pytest.raises(Forbidden), database.transaction() as session:
        keys.revoke(session, identity, identity.key_id)


def test_use_is_noted_at_most_once_a_minute(database, make_key):
    key = make_key(Role.ADMIN)

    def last_used():
        with database.transaction() as session:
            return keys.list_page(session, key.identity, 1)[0].last_used_at

    assert last_used() is None
    authenticate(database, key.plain)
    first = last_used()
    assert first is not None
    authenticate(database, key.plain)
    assert last_used() == first
    with database.transaction() as session:
        session.execute(text("UPDATE api_keys SET last_used_at = last_used_at - interval '61 seconds'"))
    authenticate(database, key.plain)
    assert last_used() > first
