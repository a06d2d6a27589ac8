"""Which database errors mean "try again later" rather than "this will never work"."""

from sqlalchemy.exc import InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

UNREACHABLE = (OperationalError, InterfaceError, InternalError, PoolTimeout)
"""No connection, a server that is stopping, out of disk or read-only after a failover, a deadlock, a full pool.

Anything else (DataError, IntegrityError, ProgrammingError) says that the same call would fail the same way again.
"""
