"""Has a round over files done, by a worker's own code in another process."""

import subprocess
import sys

from agents.operator.errors import CommandFailed
from agents.operator.settings import full_environment
from schemas.offline import OfflineDone, OfflineRound

_COMMAND = (sys.executable, "-m", "services.aggregator.offline")


def combined(asked: OfflineRound) -> OfflineDone:
    done = subprocess.run(  # noqa: S603 -- ours
        _COMMAND,
        env=full_environment(),
        input=asked.model_dump_json().encode(),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise CommandFailed(done.stderr.decode(errors="replace").strip()[-2_000:])
    return OfflineDone.model_validate_json(done.stdout)
