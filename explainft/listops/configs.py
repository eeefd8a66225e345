"""The published configurations of the dataset and their streams of candidate expressions.

Everything here is a pure function of its arguments, so any process on any machine draws the same expressions.
"""

import random
from dataclasses import dataclass
from hashlib import blake2b

from explainft.listops.expression import Node
from explainft.listops.sampling import Sampler

VERSION = "1.0.0"  # of the dataset; a part of every seed
SPLITS = ("train", "validation", "test", "longer", "larger_numbers")
EVAL_SPLITS = SPLITS[1:]

# The samplers of a config, and the splits that share each one's stream. Streams cannot meet: `longer` is told apart
# by length, `larger_numbers` by holding no value of the others.
STREAMS = {"train": SPLITS[:3], "longer": SPLITS[3:4], "larger_numbers": SPLITS[4:]}
# How a stream is dealt out to its splits: of 102 expressions of the first, 98 to train on average.
SHARES = {"train": 98, "validation": 2, "test": 2, "longer": 1, "larger_numbers": 1}
CHUNK = 128  # candidates drawn from one seed

UNSEEN = range(11, 30, 3)  # values that the training split of tiny_gaps leaves out


@dataclass(frozen=True)
class Config:
    """A problem: how its expressions are drawn for training and for the two kinds of generalisation."""

    name: str
    train: Sampler  # also of the splits validation and test
    longer: Sampler
    larger_numbers: Sampler
    modulus: int = 10  # of SUM


CONFIGS = {
    config.name: config
    for config in (
        Config(
            "listops10",
            train=Sampler(range(10), 21, 49),
            longer=Sampler(range(10), 101, 199),
            larger_numbers=Sampler(range(30, 100), 21, 49),
        ),
        Config(
            "listops30",
            train=Sampler(range(30), 21, 49),
            longer=Sampler(range(30), 101, 199),
            larger_numbers=Sampler(range(30, 100), 21, 49),
        ),
        Config(
            "modsum30",
            train=Sampler(range(30), 21, 49, operators=("SUM",)),
            longer=Sampler(range(30), 101, 199, operators=("SUM",)),
            larger_numbers=Sampler(range(30, 100), 21, 49, operators=("SUM",)),
        ),
        Config(
            "listops30_50_100",
            train=Sampler(range(30), 51, 99),
            longer=Sampler(range(30), 101, 199),
            larger_numbers=Sampler(range(30, 100), 51, 99),
        ),
        Config(
            "tiny",
            train=Sampler(range(10), 8, 24, max_args=4),
            longer=Sampler(range(10), 25, 60, max_args=4),
            larger_numbers=Sampler(range(10, 30), 8, 24, max_args=4),
        ),
        Config(
            "modsum_tiny",
            train=Sampler(range(10), 8, 24, max_args=4, operators=("SUM",)),
            longer=Sampler(range(10), 25, 60, max_args=4, operators=("SUM",)),
            larger_numbers=Sampler(range(10, 30), 8, 24, max_args=4, operators=("SUM",)),
        ),
        Config(  # up to four times as long as tiny
            "tiny_25_96",
            train=Sampler(range(10), 25, 96, max_args=4),
            longer=Sampler(range(10), 97, 192, max_args=4),
            larger_numbers=Sampler(range(10, 30), 25, 96, max_args=4),
        ),
        Config(  # digits that are known, in numbers that are not
            "tiny_gaps",
            train=Sampler(tuple(value for value in range(30) if value not in UNSEEN), 8, 24, max_args=4),
            longer=Sampler(tuple(value for value in range(30) if value not in UNSEEN), 25, 60, max_args=4),
            larger_numbers=Sampler(UNSEEN, 8, 24, max_args=4),
        ),
    )
}


def candidates(config: Config, stream: str, chunk: int) -> list[Node]:
    """The trees of one chunk of a stream ("train", "longer" or "larger_numbers"), duplicates included."""
    sampler: Sampler = getattr(config, stream)
    rng = random.Random(f"explained_listops/{config.name}:{VERSION} {stream} {chunk}")
    return [sampler.tree(rng) for _ in range(CHUNK)]


def digest(expression: str) -> int:
    """64 bits that stand for an expression's text."""
    return int.from_bytes(blake2b(expression.encode(), digest_size=8).digest(), "big")


def split_of(stream: str, digest: int) -> str:
    """The split of its stream to which an expression belongs, by its digest alone.

    So an expression that several configs draw is in the training split of all of them or of none.
    """
    splits = STREAMS[stream]
    rest = digest % sum(SHARES[split] for split in splits)
    for split in splits:
        if rest < SHARES[split]:
            return split
        rest -= SHARES[split]
    raise AssertionError("the rest is smaller than the sum of the shares")
