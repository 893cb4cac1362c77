"""A trainer that gives the model back as it is: all that is left to measure is Warren."""

from typing import Any

Weights = dict[str, Any]  # arrays of any kind


class Noop:
    def train(self, weights: Weights, config: dict[str, Any]) -> tuple[Weights, int, dict[str, float]]:
        return weights, 1, {}

    def test(self, weights: Weights, config: dict[str, Any]) -> tuple[int, dict[str, float]]:
        return 1, {}
