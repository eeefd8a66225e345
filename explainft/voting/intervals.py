"""Intervals of means over problems, by bootstrap over the problems."""

import numpy as np

RESAMPLES = 1000
_CELLS = 10**7  # of a block of resamples: 80 MB


def bootstrap(values_BM: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ends of the 95% percentile intervals of the columns' means, over resamples of the rows.

    All columns have the same resamples. The rows must be in an order that does not depend on the file's.
    """
    rng, problems = np.random.default_rng(seed), len(values_BM)
    block = max(1, _CELLS // problems)
    means = []
    for start in range(0, RESAMPLES, block):
        number = min(block, RESAMPLES - start)
        counts_RB = rng.multinomial(problems, np.full(problems, 1 / problems), size=number)
        means.append(counts_RB @ values_BM / problems)
    low_M, high_M = np.percentile(np.concatenate(means), [2.5, 97.5], axis=0)
    return low_M, high_M
