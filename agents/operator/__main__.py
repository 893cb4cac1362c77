"""Starts the `warren` command."""

import signal
import sys
from types import FrameType

from agents.operator.app import create_app
from agents.operator.console import err
from infra.broker.errors import BrokerFault
from infra.objects.errors import ObjectStoreUnavailable
from infra.stack.install import InstallFailed
from infra.stack.processes import ServerDidNotStart
from schemas.refusal import Refusal

_EXPECTED = (Refusal, BrokerFault, ObjectStoreUnavailable, ServerDidNotStart, InstallFailed)


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start background jobs with it ignored
    signal.signal(signal.SIGTERM, _terminate)
    try:
        create_app()()
    except _EXPECTED as error:
        err.print(str(error), markup=False, soft_wrap=True, style="red")
        sys.exit(1)


def _terminate(number: int, _: FrameType | None) -> None:
    """Like a Ctrl-C, what was begun is cleaned up."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
