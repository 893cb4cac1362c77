"""Starts an aggregator worker: python -m services.aggregator"""

from functools import partial

from infra.plugins import load_rules
from infra.process import explained, run_until_stopped, settings_from_environment
from services.aggregator.app import run
from services.aggregator.memory import return_large_blocks
from services.aggregator.settings import Settings


def main() -> None:
    return_large_blocks()
    settings = settings_from_environment(Settings)
    with explained("WARREN_AGGREGATOR_STRATEGIES"):
        load_rules(settings.strategies)  # while somebody still looks
    run_until_stopped(partial(run, settings), settings.log_level)


if __name__ == "__main__":
    main()
