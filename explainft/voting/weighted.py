"""Votes in which samples have weights: probabilities of the model, or scores of a verifier.

Legend: W weights, N samples, C clusters, S sampled subsets, K sizes.
"""

from collections.abc import Sequence

import numpy as np

from explainft.voting.ballots import Ballot

EQUAL = 1e-6  # relative: sums of the same weights in another order are equal, in float32 too


def probability_weights(ballot: Ballot, per_token: bool) -> np.ndarray | None:
    """Returns the probability of each sample relative to the largest one, as a whole or per token (geometric mean)."""
    logprobs_N, tokens_N = ballot.logprobs_N, ballot.tokens_N
    if logprobs_N is None:
        return None
    if per_token:
        if tokens_N is None:
            return None
        logprobs_N = logprobs_N / np.maximum(tokens_N, 1)
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


def sampled_votes(
    ballot: Ballot, weights_WN: Sequence[np.ndarray], ks: Sequence[int], subsets: int, rng: np.random.Generator
) -> np.ndarray:
    """Returns for each of W weights and K sizes the mean correctness of votes, its variance, and the fraction tied.

    They are those of `subsets` subsets of each size, the same ones for all weights. One sample alone is the answer
    whatever its weight, and all samples are one subset: these two are exact. The shape is (W, K, 3).
    """
    found_WK3, clusters = np.zeros((len(weights_WN), len(ks), 3)), len(ballot.answers)
    if not clusters:
        return found_WK3
    member_NC = (ballot.clusters_N[:, None] == np.arange(clusters)).astype(np.float32)
    columns = [member_NC, *(member_NC * weights_N[:, None] for weights_N in weights_WN)]
    values_NX = np.concatenate(columns, axis=1, dtype=np.float32)
    rank_SN = rng.random((subsets, ballot.n), dtype=np.float32).argsort(axis=1)
    for at, k in enumerate(ks):
        if k == 1:
            found_WK3[:, at, 0] = ballot.sizes_C @ ballot.cluster_correct_C / ballot.n
            continue
        if k == ballot.n:
            for w, weights_N in enumerate(weights_WN):
                correct, tied = vote(ballot, weights_N)
                found_WK3[w, at] = correct, 0, tied
            continue
        sums_SX = (rank_SN < k).astype(np.float32) @ values_NX
        sums_SWC = sums_SX.reshape(subsets, -1, clusters)
        won_SWC = winners(np.where(sums_SWC[:, :1] > 0, sums_SWC[:, 1:], -np.inf))
        number_SW = won_SWC.sum(axis=2)
        correct_SW = (won_SWC * ballot.cluster_correct_C).sum(axis=2) / np.maximum(number_SW, 1)
        found_WK3[:, at, 0] = correct_SW.mean(axis=0)
        found_WK3[:, at, 1] = correct_SW.var(axis=0, ddof=1) / subsets
        found_WK3[:, at, 2] = (number_SW > 1).mean(axis=0)
    return found_WK3
