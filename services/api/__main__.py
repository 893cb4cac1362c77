"""Starts the API: python -m services.api"""

import uvicorn

from infra.logs import configure
from infra.process import explained, settings_from_environment
from services.api.app import create_app
from services.api.settings import Settings


def main() -> None:
    settings = settings_from_environment(Settings)
    configure(settings.log_level)
    with explained("WARREN_API_STRATEGIES"):
        app = create_app(settings)
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=10,
    )


if __name__ == "__main__":
    main()
