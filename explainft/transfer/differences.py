"""Differences of two proportions with their intervals, paired where both are of the same examples."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from explainft.evaluation.metrics import wilson

POSITIVE, NEGATIVE, UNCLEAR = "positive", "negative", "unclear"


class Difference(NamedTuple):
    """The change of a metric from the baseline, with its 95% interval; None where the metric has none."""

    value: float
    low: float | None
    high: float | None
    paired: bool

    @property
    def transfer(self) -> str:
        """Whether the interval lies above or below 0."""
        if self.low is not None and self.low > 0:
            return POSITIVE
        return NEGATIVE if self.high is not None and self.high < 0 else UNCLEAR


def paired_difference(run: Sequence[bool], baseline: Sequence[bool]) -> Difference:
    """Compares which of the same examples are correct, by Newcombe's hybrid score interval (1998, method 10).

    It combines the Wilson intervals of both proportions, allowing for their correlation, and stays an interval where no
    example differs.
    """
    pairs = list(zip(run, baseline, strict=True))
    n = len(pairs)
    both, neither = sum(a and b for a, b in pairs), sum(not a and not b for a, b in pairs)
    first, second = sum(map(bool, run)), sum(map(bool, baseline))
    bounds = wilson(first, n), wilson(second, n)
    correlation = _correlation(both, first - both, second - both, neither)
    value = (first - second) / n
    low, high = _combine(first / n, second / n, *bounds, correlation)
    return Difference(value, low, high, True)


def _correlation(both: int, first_only: int, second_only: int, neither: int) -> float:
    """Returns phi of the two-by-two table, with Newcombe's continuity correction."""
    n = both + first_only + second_only + neither
    product = (both + first_only) * (second_only + neither) * (both + second_only) * (first_only + neither)
    if not product:
        return 0.0
    agreement = both * neither - first_only * second_only
    if agreement > 0:
        agreement = max(agreement - n / 2, 0)
    return agreement / math.sqrt(product)


def unpaired_difference(
    value: float, bounds: tuple[float, float] | None, start: float, start_bounds: tuple[float, float] | None
) -> Difference:
    """Compares two values of a metric by their own intervals, as if the examples were different ones."""
    if bounds is None or start_bounds is None:
        return Difference(value - start, None, None, False)
    return Difference(value - start, *_combine(value, start, bounds, start_bounds, 0.0), False)


def _combine(
    first: float, second: float, bounds: tuple[float, float], other: tuple[float, float], correlation: float
) -> tuple[float, float]:
    def margin(a: float, b: float) -> float:
        return math.sqrt(max(a * a - 2 * correlation * a * b + b * b, 0.0))

    value = first - second
    low = value - margin(first - bounds[0], other[1] - second)
    high = value + margin(bounds[1] - first, second - other[0])
    return low, high
