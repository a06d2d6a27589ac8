"""What all tables have in common."""

from datetime import datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, Index, MetaData, Text, TextClause, TypeDecorator, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase

from store.status import JobStatus


class StatusText(TypeDecorator[JobStatus]):
    """A JobStatus, kept as text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: JobStatus | None, dialect: Dialect) -> str | None:
        return None if value is None else JobStatus(value).value

    def process_result_value(self, value: str | None, dialect: Dialect) -> JobStatus | None:
        return None if value is None else JobStatus(value)


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012
        str: Text(),
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB(),
        list[str]: JSONB(),
    }
    # Columns that the database fills come back with the INSERT or UPDATE itself, never by a later hidden query.
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012


NOW = func.clock_timestamp()


def few(name: str, *columns: str, unique: bool = False) -> Index:
    """An index of the rows that have something in the last of these columns."""
    return Index(name, *columns, unique=unique, postgresql_where=text(f"{columns[-1]} IS NOT NULL"))


def search(name: str, column: str, only: TextClause | None = None) -> Index:
    """A GIN index without a list of pending entries, which every search would have to go through."""
    return Index(name, column, postgresql_using="gin", postgresql_with={"fastupdate": "off"}, postgresql_where=only)
