import hashlib
from collections import Counter

import pytest

from explainft.listops.configs import CONFIGS, EVAL_SPLITS, SPLITS, STREAMS, candidates, digest, split_of
from explainft.listops.expression import format, length, operators, values

UNKNOWN = {11, 14, 17, 20, 23, 26, 29}
KNOWN = set(range(30)) - UNKNOWN
# (values, shortest, longest) of train, longer and larger_numbers.
PUBLISHED = {
    "listops10": ((range(10), 21, 49), (range(10), 101, 199), (range(30, 100), 21, 49)),
    "listops30": ((range(30), 21, 49), (range(30), 101, 199), (range(30, 100), 21, 49)),
    "modsum30": ((range(30), 21, 49), (range(30), 101, 199), (range(30, 100), 21, 49)),
    "listops30_50_100": ((range(30), 51, 99), (range(30), 101, 199), (range(30, 100), 51, 99)),
    "tiny": ((range(10), 8, 24), (range(10), 25, 60), (range(10, 30), 8, 24)),
    "modsum_tiny": ((range(10), 8, 24), (range(10), 25, 60), (range(10, 30), 8, 24)),
    "tiny_25_96": ((range(10), 25, 96), (range(10), 97, 192), (range(10, 30), 25, 96)),
    "tiny_gaps": ((KNOWN, 8, 24), (KNOWN, 25, 60), (UNKNOWN, 8, 24)),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_candidates_match_their_config(name):
    for stream, (numbers, shortest, longest) in zip(STREAMS, PUBLISHED[name], strict=True):
        trees = candidates(CONFIGS[name], stream, 0)
        assert all(shortest <= length(tree) <= longest for tree in trees)
        assert {value for tree in trees for value in values(tree)} == set(numbers)
        assert {operator for tree in trees for operator in operators(tree)} == (
            {"SUM"} if name.startswith("modsum") else {"MIN", "MAX", "MED", "SUM"}
        )


# The published data: a change here is a change of the dataset's version.
@pytest.mark.parametrize(
    ("name", "sha256"),
    [
        ("listops10", "3aa7d948af912672"),
        ("listops30", "192364ea07666478"),
        ("modsum30", "682c762ed08d5c96"),
        ("listops30_50_100", "6cb15823ac9864c0"),
        ("tiny", "bb1eb59b710be333"),
        ("modsum_tiny", "64e981373a5f245e"),
        ("tiny_25_96", "34789a85c02d1159"),
        ("tiny_gaps", "166cb85623c2c23e"),
    ],
)
def test_candidates_are_published(name, sha256):
    texts = [format(tree) for stream in STREAMS for tree in candidates(CONFIGS[name], stream, 7)[:50]]
    assert hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16] == sha256


def test_chunks_configs_and_streams_differ():
    sampled = [
        tuple(candidates(CONFIGS[name], stream, chunk)[:20])
        for name, stream, chunk in [
            ("listops10", "train", 0),
            ("listops10", "train", 1),
            ("listops30", "train", 0),
            ("listops10", "longer", 0),
        ]
    ]
    assert len(set(sampled)) == 4


def test_splits_of_streams():
    assert SPLITS == ("train", "validation", "test", "longer", "larger_numbers")
    assert SPLITS[1:] == EVAL_SPLITS
    assert sorted(split for members in STREAMS.values() for split in members) == sorted(SPLITS)


def test_splits_are_proportional():
    counts = Counter(split_of("train", digest(str(n))) for n in range(102_000))
    assert counts["train"] == pytest.approx(98_000, abs=300)  # five standard deviations or more, here and below
    assert counts["validation"] == pytest.approx(2_000, abs=220)
    assert counts["test"] == pytest.approx(2_000, abs=220)
    assert {split_of("longer", digest(str(n))) for n in range(100)} == {"longer"}
    assert {split_of("larger_numbers", digest(str(n))) for n in range(100)} == {"larger_numbers"}
