"""Starts the API: python -m services.api"""

import sys

import uvicorn
from fastapi import FastAPI

from infra.logs import configure
from infra.process import settings_from_environment
from schemas.refusal import Refusal
from services.api.app import create_app
from services.api.settings import Settings


def main() -> None:
    settings = settings_from_environment(Settings)
    configure(settings.log_level)
    uvicorn.run(
        _app(settings),
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=10,
    )


def _app(settings: Settings) -> FastAPI:
    """Or one line on standard error: rules of the operator's own may be wrong."""
    try:
        return create_app(settings)
    except Refusal as refusal:
        sys.exit(f"these settings do not work: WARREN_API_STRATEGIES: {refusal}")


if __name__ == "__main__":
    main()
