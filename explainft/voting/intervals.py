"""Intervals by bootstrap over problems."""

from collections.abc import Iterator

import numpy as np

RESAMPLES = 1000
_CELLS = 10**7  # of a block of resamples: 80 MB


def bootstrap(values_BM: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ends of the 95% percentile intervals of the columns' means, over resamples of the rows.

    All columns have the same resamples. The rows must be in an order that does not depend on the file's.
    """
    problems = len(values_BM)
    means = [counts_RB @ values_BM / problems for counts_RB in resample(problems, seed)]
    return percentiles(np.concatenate(means))


def resample(problems: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Yields blocks of the resamples: how often each has each problem, [R, B]."""
    rng, block = np.random.default_rng(seed), max(1, _CELLS // problems)
    for start in range(0, RESAMPLES, block):
        yield rng.multinomial(problems, np.full(problems, 1 / problems), size=min(block, RESAMPLES - start))


def percentiles(values_RM: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ends of the 95% intervals of values that resamples have."""
    low_M, high_M = np.percentile(values_RM, [2.5, 97.5], axis=0)
    return low_M, high_M
