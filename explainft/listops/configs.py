"""The published configs of the dataset and their streams of candidate expressions.

Everything here is a pure function of its arguments, so every process on every machine samples the same expressions.
"""

import random
from dataclasses import dataclass
from hashlib import blake2b

from explainft.listops.expression import Node
from explainft.listops.sampling import Sampler

VERSION = "1.0.0"  # of the dataset; a part of every seed
SPLITS = ("train", "validation", "test", "longer", "larger_numbers")
EVAL_SPLITS = SPLITS[1:]

# The samplers of a config, and the splits that share each one's stream. Streams are disjoint: `longer` differs in
# length, and `larger_numbers` has none of the values of the others.
STREAMS = {"train": SPLITS[:3], "longer": SPLITS[3:4], "larger_numbers": SPLITS[4:]}
# The proportions of a stream's splits: of 102 expressions of the first, 98 go to train on average.
PROPORTIONS = {"train": 98, "validation": 2, "test": 2, "longer": 1, "larger_numbers": 1}
CHUNK = 128  # candidates sampled from one seed

UNSEEN = range(11, 30, 3)  # values that the training split of tiny_gaps leaves out


@dataclass(frozen=True)
class Config:
    """A problem: the samplers of its expressions for training and for two kinds of generalization."""

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
        Config(  # up to four times the length of tiny
            "tiny_25_96",
            train=Sampler(range(10), 25, 96, max_args=4),
            longer=Sampler(range(10), 97, 192, max_args=4),
            larger_numbers=Sampler(range(10, 30), 25, 96, max_args=4),
        ),
        Config(  # seen digits in unseen numbers
            "tiny_gaps",
            train=Sampler(tuple(value for value in range(30) if value not in UNSEEN), 8, 24, max_args=4),
            longer=Sampler(tuple(value for value in range(30) if value not in UNSEEN), 25, 60, max_args=4),
            larger_numbers=Sampler(UNSEEN, 8, 24, max_args=4),
        ),
    )
}


def candidates(config: Config, stream: str, chunk: int) -> list[Node]:
    """Samples the trees of one chunk of a stream ("train", "longer" or "larger_numbers"), duplicates included."""
    sampler: Sampler = getattr(config, stream)
    rng = random.Random(f"explained_listops/{config.name}:{VERSION} {stream} {chunk}")
    return [sampler.tree(rng) for _ in range(CHUNK)]


def digest(expression: str) -> int:
    """Returns a 64-bit digest of an expression's text."""
    return int.from_bytes(blake2b(expression.encode(), digest_size=8).digest(), "big")


def split_of(stream: str, digest: int) -> str:
    """Returns the split of an expression in its stream, which depends on its digest alone.

    An expression that several configs sample is therefore in the training split of all of them or of none.
    """
    splits = STREAMS[stream]
    offset = digest % sum(PROPORTIONS[split] for split in splits)
    for split in splits:
        if offset < PROPORTIONS[split]:
            return split
        offset -= PROPORTIONS[split]
    raise AssertionError("the offset is less than the sum of the proportions")
