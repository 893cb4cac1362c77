"""Connections to PostgreSQL."""

from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine


def connect(url: str, *, pool_size: int = 5) -> AsyncEngine:
    """An engine that opens its connections on first use and replaces those that have died.

    Its errors do not show what a statement was given: that may be a password's hash or a whole message.
    """
    return create_async_engine(
        url,
        hide_parameters=True,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=False,
        pool_timeout=10,
        connect_args={
            "timeout": 10,
            "command_timeout": 30,
            "server_settings": {"application_name": "warren"},
        },
    )
