"""Accuracy against the number of samples: pass@k, majority@k and weighted votes, with intervals.

Legend: B problems, K subset sizes.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from explainft.core.errors import UserError
from explainft.voting import weighted
from explainft.voting.ballots import Ballot
from explainft.voting.estimators import auroc, entropy, pass_at_k
from explainft.voting.intervals import bootstrap
from explainft.voting.subsets import Majority, majority

PASS, MAJORITY = "pass", "majority"
LABELS = {
    PASS: "pass@k",
    MAJORITY: "majority@k",
    "probability": "weighted by probability",
    "token_probability": "weighted by probability per token",
    "score": "weighted by score",
}


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean over problems. `tied` is how many problems' votes are tied, as expected over the subsets.

    `standard_error` is that of sampling subsets, None where all are counted; `low` and `high` are the bootstrap's.
    """

    k: int
    value: float
    low: float
    high: float
    tied: float | None = None
    standard_error: float | None = None


@dataclasses.dataclass(frozen=True)
class Curve:
    """The estimates of a method, by k."""

    method: str
    estimates: tuple[Estimate, ...]

    @property
    def label(self) -> str:
        return LABELS[self.method]

    def at(self, k: int) -> Estimate:
        return next(estimate for estimate in self.estimates if estimate.k == k)


@dataclasses.dataclass(frozen=True)
class Vote:
    """What the samples of a file show. `entropy` is a mean over the problems with an answer."""

    problems: int
    samples: int
    unparsed: int  # samples without an answer
    curves: tuple[Curve, ...]
    tokens: float | None  # of a sample, the mean over problems; None where a sample's are not known
    entropy: float | None
    entropy_auroc: float | None  # of low entropy, for the correctness of the vote of all samples
    notes: tuple[str, ...]

    @property
    def ks(self) -> list[int]:
        return [estimate.k for estimate in self.curves[0].estimates]


def vote(ballots: Sequence[Ballot], ks: Sequence[int] | None = None, seed: int = 0) -> Vote:
    """Returns the curves over `ks`; None: powers of two, and the number of samples that every problem has."""
    ks, notes = _usable_sizes(ballots, ks)
    votes = majority([_sizes(ballot) for ballot in ballots], ks, seed)
    passed_BK = np.array([[pass_at_k(b.n, int(b.sample_correct_N.sum()), k) for k in ks] for b in ballots])
    curves = [_curve(PASS, ks, passed_BK, seed), _majority_curve(ks, votes, seed)]
    curves += _weighted_curves(ballots, ks, seed)
    entropies = [entropy(ballot) for ballot in ballots]
    known = [i for i, value in enumerate(entropies) if value is not None]
    full = [weighted.vote(ballots[i], np.ones(ballots[i].n))[0] for i in known]
    if len(known) < len(ballots):
        notes.append(f"{len(ballots) - len(known):,} problems have no sample with an answer; they have no entropy")
    values = [entropies[i] or 0.0 for i in known]
    tokens = [ballot.tokens_N.mean() for ballot in ballots if ballot.tokens_N is not None]
    return Vote(
        len(ballots),
        sum(ballot.n for ballot in ballots),
        sum(ballot.unparsed for ballot in ballots),
        tuple(curves),
        math.fsum(tokens) / len(tokens) if len(tokens) == len(ballots) else None,
        math.fsum(values) / len(values) if values else None,
        auroc([-value for value in values], full),
        tuple(notes),
    )


def _usable_sizes(ballots: Sequence[Ballot], ks: Sequence[int] | None) -> tuple[list[int], list[str]]:
    """Returns the sizes that every problem has samples for, and notes that name the others."""
    fewest, most = min(ballots, key=lambda ballot: ballot.n), max(ballot.n for ballot in ballots)
    notes = []
    if fewest.n < most:
        notes.append(f"problems have {fewest.n} to {most} samples; k ends at {fewest.n}, the samples of {fewest.id!r}")
    if ks is None:
        return sorted({*(2**i for i in range(fewest.n.bit_length())), fewest.n}), notes
    for k in sorted(set(ks)):
        if k > fewest.n:
            notes.append(f"k={k} is left out: problem {fewest.id!r} has {fewest.n} samples")
    usable = sorted({k for k in ks if k <= fewest.n})
    if not usable:
        raise UserError(f"--k={','.join(map(str, ks))} needs more samples than problem {fewest.id!r} has: {fewest.n}")
    return usable, notes


def _sizes(ballot: Ballot) -> tuple[int, tuple[tuple[int, float], ...]]:
    return ballot.n, tuple(zip(ballot.sizes_C.tolist(), ballot.cluster_correct_C.tolist(), strict=True))


def _curve(method: str, ks: Sequence[int], values_BK: np.ndarray, seed: int) -> Curve:
    low_K, high_K = bootstrap(values_BK, seed)
    rows = zip(ks, values_BK.mean(axis=0).tolist(), low_K.tolist(), high_K.tolist(), strict=True)
    return Curve(method, tuple(Estimate(*row) for row in rows))


def _with_error(estimate: Estimate, variances_B: np.ndarray) -> Estimate:
    """Adds the standard error of the mean over problems whose subsets were sampled independently."""
    if not variances_B.any():
        return estimate
    return dataclasses.replace(estimate, standard_error=math.sqrt(variances_B.sum()) / len(variances_B))


def _majority_curve(ks: Sequence[int], votes: Majority, seed: int) -> Curve:
    curve = _curve(MAJORITY, ks, votes.accuracy_BK, seed)
    tied = votes.tied_BK.sum(axis=0).tolist()
    estimates = [dataclasses.replace(e, tied=ties) for e, ties in zip(curve.estimates, tied, strict=True)]
    estimates = [_with_error(e, votes.variance_BK[:, i]) for i, e in enumerate(estimates)]
    return Curve(MAJORITY, tuple(estimates))


def _weighted_curves(ballots: Sequence[Ballot], ks: Sequence[int], seed: int) -> list[Curve]:
    """Returns the curves of the weights that all samples of all problems have."""
    weights = {
        "probability": [weighted.probability_weights(ballot, per_token=False) for ballot in ballots],
        "token_probability": [weighted.probability_weights(ballot, per_token=True) for ballot in ballots],
        "score": [ballot.weights_N for ballot in ballots],
    }
    curves = []
    for method, weights_B in weights.items():
        known = [weights_N for weights_N in weights_B if weights_N is not None]
        if len(known) < len(ballots):
            continue
        rng = np.random.default_rng(seed)
        rows = tqdm(zip(ballots, known, strict=True), f"votes {LABELS[method]}", len(known), leave=False, disable=None)
        found = np.array([[weighted.sampled_votes(b, weights_N, k, rng) for k in ks] for b, weights_N in rows])
        curve = _curve(method, ks, found[:, :, 0], seed)
        estimates = [_with_error(e, found[:, i, 1]) for i, e in enumerate(curve.estimates)]
        ties = sum(weighted.vote(b, weights_N)[1] for b, weights_N in zip(ballots, known, strict=True))
        if ks[-1] == min(ballot.n for ballot in ballots) == max(ballot.n for ballot in ballots):
            estimates[-1] = dataclasses.replace(estimates[-1], tied=ties)
        curves.append(Curve(method, tuple(estimates)))
    return curves
