"""Every reader of outside text, on its seeds and on random changes of them; `python -m tests.fuzz` finds more."""

import random

import pytest

from tests.fuzz.targets import TARGETS, Target

CHANGES = 150


def changed(data, rng):
    """Returns the bytes with a few of them replaced, left out or repeated."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(3)
        if kind == 0:
            data[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            del data[at : at + rng.randint(1, 8)]
        else:
            data[at:at] = data[rng.randrange(len(data) + 1) :][: rng.randint(1, 16)]
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_breaks_a_reader(name):
    rng, target = random.Random(name), TARGETS[name]
    for seed in target.seeds:
        target.run(seed)
        for _ in range(CHANGES // len(target.seeds)):
            target.run(changed(seed, rng))


def test_an_error_that_is_not_named_is_a_bug():
    with pytest.raises(ZeroDivisionError):
        Target(lambda data: 1 / len(data), (ValueError,), []).run(b"")


@pytest.mark.parametrize("name", sorted(TARGETS.keys() - {"explanations", "answers", "checkpoints", "bindings"}))
def test_seeds_are_read(name):
    """A seed that is refused at once would show the fuzzer nothing of what follows."""
    target = TARGETS[name]
    target.function(target.seeds[0])
