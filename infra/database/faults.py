"""Telling a database that is away from a statement that is wrong."""

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

_LOST = (OSError, TimeoutError, OperationalError, InterfaceError, PoolTimeoutError)


def is_outage(error: BaseException) -> bool:
    """Whether the same statement can succeed once the database is there again."""
    return isinstance(error, _LOST) or (isinstance(error, DBAPIError) and error.connection_invalidated)
