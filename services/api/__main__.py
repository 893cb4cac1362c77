"""Starts the API: python -m services.api"""

import uvicorn

from services.api.app import create_app
from services.api.settings import Settings


def main() -> None:
    settings = Settings()
    uvicorn.run(create_app(settings), host=settings.host, port=settings.port, loop="uvloop", access_log=False)


if __name__ == "__main__":
    main()
