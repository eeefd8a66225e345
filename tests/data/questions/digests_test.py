"""The map of digests against a dict, and its memory."""

import random
import tracemalloc

from explainft.data.questions.digests import DigestMap


def test_it_equals_a_dict():
    rng = random.Random(0)
    ours, reference = DigestMap(), {}
    for _ in range(20_000):
        # Few low bits: long runs of occupied slots, over the end of the table too.
        digest, value = (
            rng.randrange(2, 250) << 56 | rng.choice([0, 5, 1023, 2047, rng.getrandbits(16)]),
            rng.getrandbits(64),
        )
        assert ours.add(digest, value) == reference.get(digest)
        reference.setdefault(digest, value)
    assert len(reference) > 4000


def test_the_digest_zero_is_one():
    digests = DigestMap()
    assert digests.add(0, 7) is None
    assert digests.add(0, 8) == digests.add(1, 9) == 7


def test_memory():
    n = 100_000
    digests = DigestMap()
    tracemalloc.start()
    for i in range(n):
        digests.add(i * 0x9E3779B97F4A7C15 % 2**64, 0)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 64 * n
