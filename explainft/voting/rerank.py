"""Re-ranking by a verifier's scores: one answer of the samples of each problem.

    RR.All       the sample of the highest score
    RR.Top-K     the sample of the highest score in the K most frequent clusters
    W.RR         the cluster with the highest sum of scores
    W.RR.MajK    the same among the K most frequent clusters

(Liu et al. 2023, arXiv 2310.10047.) Ties are between clusters and are averaged over: each of the clusters that share a
place is equally likely to come first, also where equal sizes decide which clusters are among the K.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from explainft.core.errors import UserError
from explainft.samples.examples import question_digest
from explainft.samples.files import SampledProblem
from explainft.voting.ballots import Ballot
from explainft.voting.intervals import bootstrap
from explainft.voting.weighted import EQUAL


@dataclasses.dataclass(frozen=True)
class Choice:
    """The expected correctness of the chosen answer, whether chance decides, and the number of scored samples."""

    correct: float
    tied: bool
    calls: int = 0


@dataclasses.dataclass(frozen=True)
class Ranking:
    """A method's accuracy over the problems, with its interval and cost. `k` is that of Top-K and MajK.

    `tied` counts problems; `calls` and `tokens` are means over problems: samples that a verifier scores, and generated
    tokens (None where they are not known). `ceiling`: the fraction of problems that have a correct sample
    (pass@N), or one whose steps are correct too (valid@N).
    """

    method: str
    accuracy: float
    low: float
    high: float
    tied: int
    calls: float
    tokens: float | None
    k: int | None = None
    ceiling: bool = False


@dataclasses.dataclass(frozen=True)
class Difference:
    """The accuracy of a method less that of a baseline on the same problems, with its interval."""

    method: str
    baseline: str
    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Reranking:
    """What all methods reach on the same problems. `differences` are of all pairs of methods, without ceilings."""

    problems: int
    methods: tuple[Ranking, ...]
    differences: tuple[Difference, ...]

    def over(self, method: str, baseline: str) -> Difference | None:
        """Returns the difference between two methods; None where it is not among them."""
        pairs = (d for d in self.differences if (d.method, d.baseline) == (method, baseline))
        return next(pairs, None)


def choose(sizes_C: Sequence[int], values_C: Sequence[float], correct_C: Sequence[float], k: int | None) -> Choice:
    """Chooses the cluster of the highest value among the k largest (None: all), averaged over how ties are broken."""
    if not len(sizes_C):
        return Choice(0.0, False)
    k = len(sizes_C) if k is None else min(k, len(sizes_C))
    boundary = sorted(sizes_C, reverse=True)[k - 1]
    certain = [c for c, size in enumerate(sizes_C) if size > boundary]
    candidates = [c for c, size in enumerate(sizes_C) if size == boundary]
    remaining, pool = k - len(certain), len(candidates)  # of the k, candidates have `remaining` places
    total, tied, better = 0.0, False, 0  # `better`: candidates of a higher value, none of which may be chosen
    for level in _levels(values_C, [*certain, *candidates]):
        sure = [c for c in level if sizes_C[c] > boundary]
        possible = [c for c in level if sizes_C[c] == boundary]
        for chosen in range(len(possible) + 1):
            ways = math.comb(len(possible), chosen) * _comb(pool - better - len(possible), remaining - chosen)
            first = len(sure) + chosen
            if not ways or not first:
                continue
            mean = sum(correct_C[c] for c in possible) / len(possible) if possible else 0.0
            expected = (sum(correct_C[c] for c in sure) + chosen * mean) / first
            probability = ways / math.comb(pool, remaining)
            total += probability * expected
            tied = tied or first > 1 or probability < 1
        better += len(possible)
        if sure or pool - better < remaining:  # no lower value can be the highest
            break
    scored = [*certain, *candidates[:remaining]]
    return Choice(total, tied, int(sum(sizes_C[c] for c in scored)))


def _comb(n: int, k: int) -> int:
    return math.comb(n, k) if 0 <= k <= n else 0


def _levels(values_C: Sequence[float], clusters: Sequence[int]) -> list[list[int]]:
    """Groups clusters of equal value, the highest value first."""
    levels: list[list[int]] = []
    for cluster in sorted(clusters, key=lambda c: (-values_C[c], c)):
        first = values_C[levels[-1][0]] if levels else math.nan
        if levels and values_C[cluster] >= first - EQUAL * abs(first):
            levels[-1].append(cluster)
        else:
            levels.append([cluster])
    return levels


def _best_scores(ballot: Ballot) -> list[float]:
    assert ballot.scores_N is not None  # see check_scores
    return [float(scores.max()) for scores in ballot.parsed(ballot.scores_N)]


def _score_sums(ballot: Ballot) -> list[float]:
    assert ballot.weights_N is not None
    return [math.fsum(weights) for weights in ballot.parsed(ballot.weights_N)]


def _votes(ballot: Ballot) -> list[float]:
    return ballot.sizes_C.astype(float).tolist()


MAJORITY = "majority"
METHODS: dict[str, Callable[[Ballot], list[float]]] = {"RR.Top-K": _best_scores, "W.RR.MajK": _score_sums}


def rerank(ballots: Sequence[Ballot], ks: dict[str, Sequence[int]], seed: int = 0) -> Reranking:
    """Returns the accuracies of all methods; `ks` are the K of each of METHODS, those with a K."""
    rows = [(MAJORITY, None, [dataclasses.replace(_apply(b, _votes), calls=0) for b in ballots])]
    rows += [("RR.All", None, [_all_scored(_apply(b, _best_scores), b) for b in ballots])]
    rows += [(f"RR.Top-{k}", k, choices_of(ballots, "RR.Top-K", k)) for k in ks["RR.Top-K"]]
    rows += [("W.RR", None, [_all_scored(_apply(b, _score_sums), b) for b in ballots])]
    rows += [(f"W.RR.Maj{k}", k, choices_of(ballots, "W.RR.MajK", k)) for k in ks["W.RR.MajK"]]
    ceilings = [(f"pass@{_range(ballots)}", [Choice(float(b.sample_correct_N.any()), False) for b in ballots])]
    if any(ballot.valid for ballot in ballots):  # else the samples have no steps that can be checked
        ceilings.append((f"valid@{_range(ballots)}", [Choice(float(b.valid or False), False) for b in ballots]))
    first = [Choice(float(ballot.sample_correct_N.mean()), False) for ballot in ballots]
    single = _rankings(ballots, [("pass@1", None, first)], seed, ceiling=False)[0]  # of the tokens of one sample
    known = [ballot.tokens_N.mean() for ballot in ballots if ballot.tokens_N is not None]
    single = dataclasses.replace(single, tokens=math.fsum(known) / len(known) if len(known) == len(ballots) else None)
    methods = (
        single,
        *_rankings(ballots, rows, seed, ceiling=False),
        *_rankings(ballots, [(name, None, choices) for name, choices in ceilings], seed, ceiling=True),
    )
    return Reranking(len(ballots), methods, _differences([("pass@1", None, first), *rows], seed))


def _differences(rows: Sequence[tuple[str, int | None, Sequence[Choice]]], seed: int) -> tuple[Difference, ...]:
    """Returns the difference of each pair of rows, the later less the earlier, with its paired bootstrap interval."""
    pairs = list(
        itertools.combinations([(name, [choice.correct for choice in choices]) for name, _, choices in rows], 2)
    )
    values_BM = np.array([np.subtract(correct, before) for (_, before), (_, correct) in pairs]).T
    columns = (values_BM.mean(axis=0), *bootstrap(values_BM, seed))
    found = zip(pairs, *(column.tolist() for column in columns), strict=True)
    return tuple(Difference(name, baseline, *numbers) for ((baseline, _), (name, _)), *numbers in found)


def choose_k(
    ballots: Sequence[Ballot], validation: Sequence[Ballot] | None, top_k: int | None
) -> tuple[dict[str, Sequence[int]], str]:
    """Returns the K of each of METHODS, and a line that says what chose them."""
    if top_k is not None:
        most, above = max(len(ballot.answers) for ballot in ballots), ""
        if top_k > most:
            above = f", above the {most} clusters of any problem: RR.Top-{top_k} is RR.All, and W.RR.Maj{top_k} is W.RR"
        return {method: [top_k] for method in METHODS}, f"K={top_k} is --top_k{above}"
    if validation is None:
        ks = _table_of_k(ballots)
        line = "no K is chosen: the best one of these rows is optimistic; choose K with --validation or --top_k"
        return {method: ks for method in METHODS}, line
    chosen = {method: _best_k(validation, method) for method in METHODS}
    named = ", ".join(f"K={k} of {method}" for method, k in chosen.items())
    return {method: [k] for method, k in chosen.items()}, f"chosen on {len(validation):,} validation problems: {named}"


def check_separate(problems: Sequence[SampledProblem], validation: Sequence[SampledProblem]) -> None:
    """Raises UserError where K would be chosen on problems that it is scored on.

    They are known by their questions, without one by their ids.
    """
    known = {_question(problem) for problem in problems}
    shared = [problem.id for problem in validation if _question(problem) in known]
    if shared:
        raise UserError(
            f"{len(shared):,} of {len(validation):,} validation problems, such as {shared[0]!r}, are in the file "
            "that K is chosen for; give samples of other problems"
        )


def _question(problem: SampledProblem) -> int | str:
    return question_digest(problem.target) if str(problem.target.example["question"]).strip() else problem.id


def check_scores(ballots: Sequence[Ballot], file: Path) -> None:
    """Raises UserError where a sample has no score."""
    for ballot in ballots:
        if ballot.scores_N is None:
            raise UserError(
                f"{file}: a sample of problem {ballot.id!r} has no score; run `explainft score`, or name it with "
                "--score_field"
            )


def _best_k(ballots: Sequence[Ballot], method: str) -> int:
    """Returns the K of the highest accuracy on these problems, the smallest where several have it."""
    most = max((len(ballot.answers) for ballot in ballots), default=1)
    accuracy = {k: _mean(choices_of(ballots, method, k)) for k in range(1, max(most, 1) + 1)}
    return max(accuracy, key=lambda k: (round(accuracy[k], 12), -k))


def _table_of_k(ballots: Sequence[Ballot]) -> list[int]:
    """Returns powers of two below the largest number of clusters, where nothing chooses K."""
    most = max(len(ballot.answers) for ballot in ballots)
    return [2**i for i in range(1, max(most - 1, 2).bit_length())]


def _apply(ballot: Ballot, values: Callable[[Ballot], list[float]], k: int | None = None) -> Choice:
    sizes, correct = ballot.sizes_C.tolist(), ballot.cluster_correct_C.tolist()
    return choose(sizes, values(ballot) if sizes else [], correct, k)


def choices_of(ballots: Sequence[Ballot], method: str, k: int) -> list[Choice]:
    return [_apply(ballot, METHODS[method], k) for ballot in ballots]


def _all_scored(choice: Choice, ballot: Ballot) -> Choice:
    return dataclasses.replace(choice, calls=ballot.n)


def _mean(choices: Sequence[Choice]) -> float:
    return math.fsum(choice.correct for choice in choices) / len(choices)


def _range(ballots: Sequence[Ballot]) -> str:
    fewest, most = min(ballot.n for ballot in ballots), max(ballot.n for ballot in ballots)
    return str(most) if fewest == most else f"{fewest}..{most}"


def _rankings(
    ballots: Sequence[Ballot], rows: Sequence[tuple[str, int | None, Sequence[Choice]]], seed: int, ceiling: bool
) -> list[Ranking]:
    tokens = [float(ballot.tokens_N.sum()) for ballot in ballots if ballot.tokens_N is not None]
    mean_tokens = math.fsum(tokens) / len(tokens) if len(tokens) == len(ballots) else None
    low, high = bootstrap(np.array([[choice.correct for choice in choices] for *_, choices in rows]).T, seed)
    return [
        Ranking(
            name,
            _mean(choices),
            float(low[i]),
            float(high[i]),
            sum(choice.tied for choice in choices),
            sum(choice.calls for choice in choices) / len(choices),
            mean_tokens,
            k,
            ceiling,
        )
        for i, (name, k, choices) in enumerate(rows)
    ]
