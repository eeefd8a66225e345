"""Votes in which samples have weights: probabilities of the model, or scores of a verifier.

Legend: N samples, C clusters, S sampled subsets.
"""

import numpy as np

from explainft.voting.ballots import Ballot

SUBSETS = 256  # sampled of each problem and size
EQUAL = 1e-9  # relative: sums of the same weights in another order are equal


def probability_weights(ballot: Ballot, per_token: bool) -> np.ndarray | None:
    """Returns the probability of each sample relative to the largest one, as a whole or per token (geometric mean)."""
    if ballot.logprobs_N is None or (per_token and ballot.tokens_N is None):
        return None
    logprobs_N = ballot.logprobs_N
    if per_token:
        logprobs_N = logprobs_N / np.maximum(ballot.tokens_N, 1)
    return np.exp(logprobs_N - logprobs_N.max())


def winners(values_XC: np.ndarray) -> np.ndarray:
    """Returns which clusters share the first place in each row; those at -inf do not take part."""
    first_X = values_XC.max(axis=-1, keepdims=True)
    return (values_XC >= first_X - EQUAL * np.abs(first_X)) & (values_XC > -np.inf)


def vote(ballot: Ballot, weights_N: np.ndarray) -> tuple[float, bool]:
    """Returns the correctness of the weighted vote of all samples, and whether clusters share the first place."""
    if not ballot.answers:
        return 0.0, False
    sums_C = np.array([weights.sum() for weights in ballot.parsed(weights_N)])
    won_C = winners(sums_C)
    return float(won_C @ ballot.cluster_correct_C / won_C.sum()), bool(won_C.sum() > 1)


def sampled_votes(ballot: Ballot, weights_N: np.ndarray, k: int, rng: np.random.Generator) -> tuple[float, float]:
    """Returns the mean correctness of the votes of SUBSETS subsets of size k, and the variance of that mean.

    One sample alone is the answer whatever its weight, and all samples are one subset: these two are exact.
    """
    if k == 1:
        return float(ballot.sizes_C @ ballot.cluster_correct_C) / ballot.n, 0.0
    if k == ballot.n or not ballot.answers:
        return vote(ballot, weights_N)[0], 0.0
    order_SN = rng.random((SUBSETS, ballot.n))
    chosen_SN = order_SN <= np.partition(order_SN, k - 1, axis=1)[:, k - 1 : k]
    member_NC = (ballot.clusters_N[:, None] == np.arange(len(ballot.answers))).astype(np.float64)
    sums_SC = chosen_SN @ (member_NC * weights_N[:, None])
    present_SC = chosen_SN @ member_NC > 0
    won_SC = winners(np.where(present_SC, sums_SC, -np.inf))
    correct_S = won_SC @ ballot.cluster_correct_C / np.maximum(won_SC.sum(axis=1), 1)
    return float(correct_S.mean()), float(correct_S.var(ddof=1) / SUBSETS)
