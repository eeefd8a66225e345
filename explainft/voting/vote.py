"""Accuracy against the number of samples: pass@k, majority@k and weighted votes, with intervals.

Legend: B problems, K subset sizes, W weights, 3: value, variance by sampled subsets, fraction tied.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from explainft.core.errors import UserError
from explainft.voting import weighted
from explainft.voting.ballots import Ballot
from explainft.voting.calibration import auroc
from explainft.voting.estimators import entropy, pass_at_k
from explainft.voting.intervals import bootstrap
from explainft.voting.subsets import majority, subsets_a_problem

PASS, MAJORITY, SCORE = "pass", "majority", "score"
LABELS = {
    PASS: "pass@k",
    MAJORITY: "majority@k",
    "probability": "weighted by probability",
    "token_probability": "weighted by probability per token",
    SCORE: "weighted by score",
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
    tied: float = 0.0
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
    nothing = np.zeros_like(passed_BK)
    values = {
        PASS: np.stack([passed_BK, nothing, nothing], axis=2),
        MAJORITY: np.stack([votes.accuracy_BK, votes.variance_BK, votes.tied_BK], axis=2),
        **_weighted_votes(ballots, ks, seed),
    }
    low, high = bootstrap(np.concatenate([values_BK3[:, :, 0] for values_BK3 in values.values()], axis=1), seed)
    ends = zip(low.reshape(len(values), -1), high.reshape(len(values), -1), strict=True)
    curves = [_curve(method, ks, values[method], *low_high) for method, low_high in zip(values, ends, strict=True)]
    entropies = [entropy(ballot) for ballot in ballots]
    known = [i for i, value in enumerate(entropies) if value is not None]
    full = [weighted.vote(ballots[i], np.ones(ballots[i].n))[0] for i in known]
    if len(known) < len(ballots):
        notes.append(f"{len(ballots) - len(known):,} problems have no sample with an answer; they have no entropy")
    scored = sum(ballot.weights_N is not None for ballot in ballots)
    if 0 < scored < len(ballots):
        notes.append(f"{len(ballots) - scored:,} problems have samples without a score; no vote is weighted by score")
    known_entropies = [entropies[i] or 0.0 for i in known]
    tokens = [ballot.tokens_N.mean() for ballot in ballots if ballot.tokens_N is not None]
    entropy_auroc = auroc(-np.array(known_entropies), np.array(full))
    return Vote(
        len(ballots),
        sum(ballot.n for ballot in ballots),
        sum(ballot.unparsed for ballot in ballots),
        tuple(curves),
        math.fsum(tokens) / len(tokens) if len(tokens) == len(ballots) else None,
        math.fsum(known_entropies) / len(known) if known else None,
        None if math.isnan(entropy_auroc) else entropy_auroc,
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


def _curve(method: str, ks: Sequence[int], values_BK3: np.ndarray, low_K: np.ndarray, high_K: np.ndarray) -> Curve:
    """Returns the means over problems; the variances are those of each problem's sampled subsets, and independent."""
    errors_K = np.sqrt(values_BK3[:, :, 1].sum(axis=0)) / len(values_BK3)
    columns = [values_BK3[:, :, 0].mean(axis=0), low_K, high_K, values_BK3[:, :, 2].sum(axis=0), errors_K]
    rows = zip(ks, *(column.tolist() for column in columns), strict=True)
    return Curve(method, tuple(Estimate(*row[:-1], standard_error=row[-1] or None) for row in rows))


def _weighted_votes(ballots: Sequence[Ballot], ks: Sequence[int], seed: int) -> dict[str, np.ndarray]:
    """Returns the votes by the weights that all samples of all problems have."""
    weights = {
        "probability": [weighted.probability_weights(ballot, per_token=False) for ballot in ballots],
        "token_probability": [weighted.probability_weights(ballot, per_token=True) for ballot in ballots],
        SCORE: [ballot.weights_N for ballot in ballots],
    }
    known = {method: weights_B for method, weights_B in weights.items() if all(w is not None for w in weights_B)}
    if not known:
        return {}
    rng, subsets = np.random.default_rng(seed), subsets_a_problem(len(ballots))
    rows = tqdm(zip(ballots, *known.values(), strict=True), "weighted votes", len(ballots), leave=False, disable=None)
    found_BWK3 = np.array(
        [weighted.sampled_votes(ballot, weights_WN, ks, subsets, rng) for ballot, *weights_WN in rows]
    )
    return {method: found_BWK3[:, w] for w, method in enumerate(known)}
