"""Majority votes over all subsets of a problem's samples, by counting.

A subset of k samples votes for its most frequent answer; clusters that share the first place win in equal parts. The
number of subsets in which a cluster wins with j votes is a coefficient of a product of polynomials: every other cluster
of size s has at most j votes, so its factor is

    sum over v < j of C(s, v) x^v  +  y C(s, j) x^j

x counts votes, y counts ties. A cluster that wins with t others has 1 / (t + 1) of the vote, which is the integral of
y^t from 0 to 1: Gauss-Legendre quadrature computes it exactly. Every term is positive, so nothing cancels.

Legend: B problems, M clusters, Q quadrature nodes, D votes, K subset sizes.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

MAX_EXACT_SAMPLES = 1000  # binomial coefficients of more overflow
MAX_EXACT_WORK = 6e9  # multiplications of all problems: about ten seconds
ALL_SUBSETS = 2**18  # sampled of each size, of all problems together
MIN_SUBSETS, MAX_SUBSETS = 100, 1000  # of each problem
_BATCH = 256  # problems at a time: what they need stays in the cache


@dataclasses.dataclass(frozen=True)
class Majority:
    """For each problem and size: the expected correctness of the vote, and the probability of a tie.

    `variance_BK` is that of the mean over sampled subsets; zero where all subsets were counted.
    """

    accuracy_BK: np.ndarray
    tied_BK: np.ndarray
    variance_BK: np.ndarray


Cluster = tuple[int, float]  # its size, and the fraction of it that is correct
Sizes = tuple[int, tuple[Cluster, ...]]  # of a problem: the number of samples, and its clusters


def majority(problems: Sequence[Sizes], ks: Sequence[int], seed: int = 0) -> Majority:
    """Returns the votes of the subsets of each size k, none of which is larger than a problem's samples.

    Problems of equal sizes are counted once. Where counting is too much work, subsets of each problem are sampled.
    """
    keys = [(n, tuple(sorted(clusters, reverse=True))) for n, clusters in problems]
    unique = sorted(set(keys))
    place = {key: i for i, key in enumerate(unique)}
    index = np.array([place[key] for key in keys])
    # All samples are one subset, whose votes are the sizes: it needs no counting, and no sampling.
    partial = [k for k in ks if any(n > k for n, _ in unique)]
    places = [ks.index(k) for k in partial]
    counted = not partial or work(unique, partial) <= MAX_EXACT_WORK
    if not counted:
        # Each problem has samples of its own: variances are summed over problems as those of independent means.
        unique, index = keys, np.arange(len(keys))
    found = _whole(unique, len(ks))
    if partial:
        inner = _count(unique, partial) if counted else _sample(unique, partial, seed)
        found.accuracy_BK[:, places], found.tied_BK[:, places] = inner.accuracy_BK, inner.tied_BK
        found.variance_BK[:, places] = inner.variance_BK
    return Majority(found.accuracy_BK[index], found.tied_BK[index], found.variance_BK[index])


def _whole(problems: Sequence[Sizes], columns: int) -> Majority:
    """Returns the votes of all samples, in each of the columns."""
    votes = np.zeros((len(problems), 2))
    for vote, (_, clusters) in zip(votes, problems, strict=True):
        correct = [correct for size, correct in clusters if size == clusters[0][0]]  # the largest are first
        vote[:] = sum(correct) / max(len(correct), 1), len(correct) > 1
    accuracy_BK, tied_BK = (np.repeat(votes[:, i : i + 1], columns, axis=1) for i in (0, 1))
    return Majority(accuracy_BK, tied_BK, np.zeros_like(tied_BK))


def work(problems: Sequence[Sizes], ks: Sequence[int]) -> float:
    """Estimates the multiplications of counting; infinity where the numbers would overflow."""
    if max(n for n, _ in problems) > MAX_EXACT_SAMPLES:
        return math.inf
    k = max(ks)
    # With at least j votes each, no more than n / j clusters compete; half as many nodes, j + 1 terms, k powers of x.
    return sum(n * (k / 2) * k * (1 + math.log(k)) / 2 for n, _ in problems)


def _count(problems: Sequence[Sizes], ks: Sequence[int]) -> Majority:
    """Counts batches of problems with similar sizes, so that none waits long for another."""
    accuracy_BK, tied_BK = np.zeros((len(problems), len(ks))), np.zeros((len(problems), len(ks)))
    order = sorted(range(len(problems)), key=lambda b: [size for size, _ in problems[b][1]])
    for start in tqdm(range(0, len(order), _BATCH), "counting subsets", disable=None, leave=False):
        batch = order[start : start + _BATCH]
        n_B = np.array([problems[b][0] for b in batch])
        sizes_BM = _pad([[size for size, _ in problems[b][1]] for b in batch])
        tied_BK[batch] = count_ties(n_B, sizes_BM, ks)
        jobs = [(b, at) for b in batch for at, (_, correct) in enumerate(problems[b][1]) if correct > 0]
        jobs = [(b, at) for b, at in jobs if at == 0 or problems[b][1][at] != problems[b][1][at - 1]]
        if not jobs:
            continue
        others = [[size for i, (size, _) in enumerate(problems[b][1]) if i != at] for b, at in jobs]
        own_J = np.array([problems[b][1][at][0] for b, at in jobs])
        wins_JK = count_wins(np.array([problems[b][0] for b, _ in jobs]), own_J, _pad(others), ks)
        # Clusters that are alike win alike.
        weights_J = np.array([problems[b][1].count(problems[b][1][at]) * problems[b][1][at][1] for b, at in jobs])
        np.add.at(accuracy_BK, [b for b, _ in jobs], weights_J[:, None] * wins_JK)
    return Majority(accuracy_BK, tied_BK, np.zeros_like(tied_BK))


def count_wins(n_B: np.ndarray, own_B: np.ndarray, others_BM: np.ndarray, ks: Sequence[int]) -> np.ndarray:
    """Returns for each problem and size the fraction of the subsets that a cluster wins, ties in equal parts.

    `own_B` is the size of the cluster, `others_BM` those of the others, in descending order and padded with 0.
    """
    binomials, votes = binomial_table(int(n_B.max())), max(ks)
    wins_BK = np.zeros((len(n_B), len(ks)))
    for j in range(1, min(int(own_B.max()), votes) + 1):
        count_B = np.where(own_B >= j, (others_BM >= j).sum(axis=1), -1)
        rows = np.argsort(-count_B, kind="stable")[: int((count_B >= 0).sum())]
        active_B, sizes_BM = count_B[rows], others_BM[rows]
        degree = votes - j
        rest_B = n_B[rows] - own_B[rows] - np.where(sizes_BM >= j, sizes_BM, 0).sum(axis=1)
        nodes_Q, weights_Q = _quadrature(min(int(active_B[0]), degree // j))
        counts_BQD = np.repeat(binomials[rest_B, None, : degree + 1], len(nodes_Q), axis=1)
        for m in range(int(active_B[0])):
            some = int((active_B > m).sum())  # of the rows, which have the most clusters first
            factor_BV = binomials[sizes_BM[:some, m], : j + 1]
            counts_BQD[:some] = _multiply(counts_BQD[:some], factor_BV, nodes_Q)
        won_BD = np.einsum("q,bqd->bd", weights_Q, counts_BQD) * binomials[own_B[rows], j][:, None]
        for at, k in enumerate(ks):
            if k >= j:
                wins_BK[rows, at] += won_BD[:, k - j] / binomials[n_B[rows], k]
    return wins_BK


def count_ties(n_B: np.ndarray, sizes_BM: np.ndarray, ks: Sequence[int]) -> np.ndarray:
    """Returns for each problem and size the fraction of the subsets in which clusters share the first place.

    These are the subsets with an answer less those with one winner, which are the terms of degree one in y.
    """
    binomials, votes = binomial_table(int(n_B.max())), max(ks)
    subsets_BK = binomials[n_B][:, list(ks)]
    tied_BK = subsets_BK - binomials[n_B - sizes_BM.sum(axis=1)][:, list(ks)]
    for j in range(1, min(int(sizes_BM.max(initial=0)), votes) + 1):
        count_B = (sizes_BM >= j).sum(axis=1)
        rows = np.argsort(-count_B, kind="stable")
        active_B, sizes = count_B[rows], sizes_BM[rows]
        none_BD = binomials[n_B[rows] - np.where(sizes >= j, sizes, 0).sum(axis=1), : votes + 1].copy()
        one_BD = np.zeros_like(none_BD)
        for m in range(int(active_B[0])):
            some = int((active_B > m).sum())
            factor_BV = binomials[sizes[:some, m], : j + 1]
            fewer_BV = factor_BV[:, :j]
            one_BD[:some] = _multiply(one_BD[:some, None], fewer_BV)[:, 0]
            one_BD[:some, j:] += factor_BV[:, j:] * none_BD[:some, : votes + 1 - j]
            none_BD[:some] = _multiply(none_BD[:some, None], fewer_BV)[:, 0]
        tied_BK[rows] -= one_BD[:, list(ks)]
    fractions_BK = tied_BK / subsets_BK
    return np.where(fractions_BK < 1e-12, 0.0, fractions_BK)  # what rounding leaves of no tie


def _multiply(counts_BQD: np.ndarray, factor_BV: np.ndarray, last_Q: np.ndarray | None = None) -> np.ndarray:
    """Multiplies polynomials in x, and the last coefficient of each factor by `last_Q`."""
    length, product_BQD = counts_BQD.shape[2], np.zeros_like(counts_BQD)
    last = factor_BV.shape[1] - 1
    for v in range(min(last, length - 1) + 1):
        scale_BQ = factor_BV[:, v, None] * (last_Q if last_Q is not None and v == last else 1.0)
        product_BQD[:, :, v:] += scale_BQ[:, :, None] * counts_BQD[:, :, : length - v]
    return product_BQD


def _quadrature(degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the nodes and weights that integrate polynomials of that degree from 0 to 1 exactly."""
    nodes, weights = np.polynomial.legendre.leggauss(degree // 2 + 1)
    return (nodes + 1) / 2, weights / 2


def binomial_table(n: int) -> np.ndarray:
    """Returns C(a, b) for a and b up to n, as float64."""
    table = np.zeros((n + 1, n + 1))
    table[:, 0] = 1
    for a in range(1, n + 1):
        table[a, 1:] = table[a - 1, 1:] + table[a - 1, :-1]
    return table


def _pad(sizes: Sequence[Sequence[int]]) -> np.ndarray:
    padded = np.zeros((len(sizes), max(1, *map(len, sizes))), np.int64)
    for row, of_problem in zip(padded, sizes, strict=True):
        row[: len(of_problem)] = of_problem
    return padded


def subsets_a_problem(problems: int) -> int:
    """Returns how many subsets to sample of each problem and size: more where there are fewer problems."""
    return max(MIN_SUBSETS, min(MAX_SUBSETS, ALL_SUBSETS // problems))


def _sample(problems: Sequence[Sizes], ks: Sequence[int], seed: int) -> Majority:
    """Samples subsets of each size."""
    subsets = subsets_a_problem(len(problems))
    shape = len(problems), len(ks)
    accuracy_BK, tied_BK, variance_BK = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    rng = np.random.default_rng(seed)
    for b, (n, clusters) in enumerate(tqdm(problems, "sampling subsets", disable=None, leave=False)):
        sizes = np.array([size for size, _ in clusters], np.int64)
        correct_M = np.array([correct for _, correct in clusters])
        colours = np.append(sizes, n - sizes.sum())
        for at, k in enumerate(ks):
            if not clusters:
                continue
            number = 1 if k == n else subsets
            votes_SM = rng.multivariate_hypergeometric(colours, k, number, method="marginals")[:, :-1]
            first_S = votes_SM.max(axis=1)
            winners_SM = (votes_SM == first_S[:, None]) & (first_S > 0)[:, None]
            tied_S = winners_SM.sum(axis=1)
            won_S = winners_SM @ correct_M / np.maximum(tied_S, 1)
            accuracy_BK[b, at], tied_BK[b, at] = won_S.mean(), (tied_S > 1).mean()
            variance_BK[b, at] = won_S.var(ddof=1) / number if number > 1 else 0.0
    return Majority(accuracy_BK, tied_BK, variance_BK)
