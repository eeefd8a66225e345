"""pass@k, and how far the clusters of a problem agree."""

import numpy as np

from explainft.voting.ballots import Ballot


def pass_at_k(n: int, c: int, k: int) -> float:
    """Returns 1 - C(n - c, k) / C(n, k): the fraction of the subsets of k samples that hold a correct one.

    Unbiased (Chen et al. 2021, arXiv 2107.03374). Raises ValueError for k > n, which n samples cannot estimate.
    """
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} needs at least {k} samples, and there are {n}")
    if n - c < k:
        return 1.0
    return float(1 - np.prod(1 - c / np.arange(n - k + 1, n + 1)))


def entropy(ballot: Ballot) -> float | None:
    """Returns the entropy, in nats, of the answers of the samples that have one; None where none has."""
    if not ballot.answers:
        return None
    fractions = ballot.sizes_C / ballot.sizes_C.sum()
    return abs(float(-(fractions * np.log(fractions)).sum()))  # 0, and not -0
