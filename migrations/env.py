"""What Alembic runs for every command: the versions of this folder against the connection that store.schema gives."""

from typing import Literal

from alembic import context
from sqlalchemy import TypeDecorator

from store.models import Base


def _render(kind: str, item: object, _context: object) -> str | Literal[False]:
    """A version must not depend on today's store.models: our own column types are written as what they are below."""
    if kind == "type" and isinstance(item, TypeDecorator):
        return f"sa.{type(item.impl_instance).__name__}()"
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_item=_render,
    compare_type=True,
    compare_server_default=True,
)
with context.begin_transaction():
    context.run_migrations()
