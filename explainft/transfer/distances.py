"""How far the weights of a checkpoint are from those of another: L2, by part of the model."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from explainft.checkpoints.weights import Weights
from explainft.core.atomic_files import atomic_write, refuse_unwritable
from explainft.core.errors import UserError

PARTS = ("embedding", "encoder", "decoder")
ALL = "all"
DIGITS = 6  # significant ones that are kept: sums of the same numbers in another order agree in them


class Distance(NamedTuple):
    """The norm of the change, and of the start. `relative` is their quotient."""

    l2: float
    start: float

    @property
    def relative(self) -> float | None:
        return self.l2 / self.start if self.start else None


def part_of(parameter: str) -> str:
    """Returns the part of the model that a parameter belongs to: the stack of layers, or the embedding."""
    stack = parameter.partition("/")[0]
    return stack if stack in PARTS else "embedding"


def weight_distances(weights: Weights, start: Weights) -> dict[str, Distance] | None:
    """Returns the distance of each part and of all weights; None where the two models have other shapes.

    One array of each checkpoint is in memory at a time.
    """
    if dict(weights.parameters) != dict(start.parameters):
        return None
    squares = {part: np.zeros(2) for part in PARTS}
    for name in tqdm(weights.parameters, desc="distances", unit=" arrays", disable=None, leave=False):
        before = start.read(name).astype(np.float64)
        change = weights.read(name).astype(np.float64) - before
        squares[part_of(name)] += [np.square(change).sum(), np.square(before).sum()]
    squares[ALL] = sum(squares.values(), np.zeros(2))
    return {part: Distance(*map(_rounded, np.sqrt(found).tolist())) for part, found in squares.items()}


def read_or_compute(file: Path, weights: Weights, start: Weights) -> dict[str, Distance] | None:
    """Returns the distances that a file keeps, or computes and keeps them. Raises UserError for a corrupt file."""
    if not file.is_file():
        found = weight_distances(weights, start)
        if found is not None:
            with refuse_unwritable(file), atomic_write(file) as scratch:
                scratch.write_text(json.dumps(found, sort_keys=True) + "\n", encoding="utf-8")
        return found
    try:
        return {part: Distance(*map(float, of)) for part, of in json.loads(file.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError) as e:
        raise UserError(f"{file} is corrupt; delete it and rerun the same command") from e


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else value


def as_json(distances: Mapping[str, Distance]) -> dict[str, dict[str, float | None]]:
    """Returns the distances as transfer.json has them."""
    return {
        part: {
            "l2": found.l2,
            "start_norm": found.start,
            "relative": None if found.relative is None else _rounded(found.relative),
        }
        for part, found in distances.items()
    }
