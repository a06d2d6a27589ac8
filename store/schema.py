"""The schema's versions: upgrade, downgrade, compare. The versions themselves are in the package `migrations`."""

import importlib.resources
from collections.abc import Callable
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text

from store import tenancy
from store.database import CONNECT_ARGUMENTS, sqlalchemy_url
from store.models import Base

SERVES_FROM = "0012"
"""Programs from this version on work with a database of the newest version. Raised by a migration that takes away or
narrows something, which it may once no program that uses it is in service (docs/upgrading.md)."""

_LOCK = 0x4153594D  # "ASYM"
_MARK = "serves programs from "


class Unfit(Exception):  # noqa: N818 (a state of the database)
    """This program cannot work with the database as it is; the text says why, and what to do."""


def upgrade(database_url: str, revision: str = "head") -> None:
    """Bring the database to this version; the newest one comes with row-level security. Two at once wait for each
    other. A newer database that serves this program stays as it is; Unfit for one that does not."""

    def to_version(config: Config) -> None:
        connection = config.attributes["connection"]
        found = current(connection)
        if found is not None and found > head():
            return check(connection)
        command.upgrade(config, revision)
        if current(connection) == head():
            tenancy.enforce(connection, list(Base.metadata.tables.values()))
            connection.execute(text(f"COMMENT ON TABLE alembic_version IS '{_MARK}{SERVES_FROM}'"))
        return None

    _run(database_url, to_version)


def downgrade(database_url: str, revision: str) -> None:
    """Back to this version (`base`: an empty schema). The data of the tables that go is lost."""

    def to_version(config: Config) -> None:
        command.downgrade(config, revision)
        config.attributes["connection"].execute(text("COMMENT ON TABLE alembic_version IS NULL"))

    _run(database_url, to_version)


def draft(database_url: str, message: str) -> None:
    """Write a new version from the difference between the database and store.models."""
    number = len(list(ScriptDirectory.from_config(_config()).walk_revisions())) + 1
    _run(
        database_url,
        lambda config: command.revision(config, message, autogenerate=True, rev_id=f"{number:04}"),
    )


def differences(database_url: str) -> list[Any]:
    """What Alembic would change to make the database equal store.models; empty when it is."""
    engine = create_engine(sqlalchemy_url(database_url), connect_args=CONNECT_ARGUMENTS)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        found = compare_metadata(context, Base.metadata)
    engine.dispose()
    return list(found)


def current(connection: Connection) -> str | None:
    """The version the database has; None for one without a schema."""
    return MigrationContext.configure(connection).get_current_revision()


def serves_from(connection: Connection) -> str | None:
    """Since which version programs work with this database, as the one that migrated it last has noted."""
    noted = connection.scalar(text("SELECT obj_description(to_regclass('alembic_version'), 'pg_class')"))
    return noted.removeprefix(_MARK) if noted and noted.startswith(_MARK) else None


def check(connection: Connection, needed: str | None = None) -> None:
    """Unfit unless a program that needs this version (by default: this program) works with the database.

    It does with a newer one, as long as that is said to serve it: during an upgrade the database goes first. It does
    not with an older one, which lacks what the program writes to.
    """
    needed = needed or head()
    found = current(connection)
    if found is None or found < needed:
        raise Unfit(f"the database has {f'schema {found}' if found else 'no schema'}, not {needed}: migrate it")
    if found > needed:
        since = serves_from(connection)
        if since is None or since > needed:
            raise Unfit(
                f"the database has schema {found}, which serves programs from {since or found} on, not those of "
                f"{needed}: update this installation"
            )


def head() -> str:
    """The version this program needs."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    if revision is None:
        raise RuntimeError("the package `migrations` holds no version")
    return revision


def _config() -> Config:
    config = Config()
    # From the installed package, wherever that is: there is no alembic.ini to find.
    config.set_main_option("script_location", str(importlib.resources.files("migrations")).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _run(database_url: str, action: Callable[[Config], object]) -> None:
    config = _config()
    engine = create_engine(sqlalchemy_url(database_url), connect_args=CONNECT_ARGUMENTS)
    try:
        with engine.begin() as connection:
            # Migrating may take longer than any request may.
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            config.attributes["connection"] = connection
            action(config)
    finally:
        engine.dispose()
