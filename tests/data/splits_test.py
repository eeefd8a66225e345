"""Assigning records to splits, and the set of digests behind it."""

import random
import tracemalloc

from explainft.data import splits


def test_splits_drop_duplicates_and_fill_up():
    records = [
        (102 + 98, b"a"),
        (0, b"b"),
        (102 + 98, b"a"),
        (1, b"c"),
        (2, b"d"),
        (101, b"e"),
        (99, b"f"),
        (100, b"g"),
    ]
    assigned = splits.assign_splits("train", {"train": 2, "validation": 2, "test": 1}, records)
    assert list(assigned) == [
        ("validation", b"a"),
        ("train", b"b"),
        ("train", b"c"),
        ("test", b"e"),
        ("validation", b"f"),
    ]


def test_digest_set_is_a_set(monkeypatch):
    monkeypatch.setattr(splits.DigestSet, "NEWEST", 100)
    rng = random.Random(0)
    digests, seen = splits.DigestSet(), set()
    for digest in [0, 2**64 - 1, 0, *(rng.choice([rng.randrange(2**64), rng.randrange(500)]) for _ in range(3_000))]:
        assert digests.add(digest) == (digest not in seen)
        seen.add(digest)


def test_digest_set_takes_24_bytes_a_digest(monkeypatch):
    monkeypatch.setattr(splits.DigestSet, "NEWEST", 2**10)
    n = 40_000
    tracemalloc.start()
    digests = splits.DigestSet()
    for i in range(n):
        digests.add(i * 0x9E3779B97F4A7C15 % 2**64)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak / n < 24  # bytes: two arrays while a larger one is made, and the newest
