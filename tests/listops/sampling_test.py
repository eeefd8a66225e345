"""The sampler compared with a recursive one from the definition of the Long Range Arena."""

import random
from collections import Counter

import numpy as np
import pytest

from explainft.core.errors import UserError
from explainft.listops.configs import CONFIGS
from explainft.listops.expression import Node, depth, length, operators, values
from explainft.listops.sampling import Sampler


def arena_tree(rng: random.Random, level: int, sampler: Sampler):
    """Returns a tree as nested lists [operator, argument, ...]. In the arena r > 0.25 gives a value."""
    if level == sampler.max_depth or (level > 1 and rng.random() > 0.25):
        return rng.choice(sampler.values)
    count = rng.randint(2, sampler.max_args)
    arguments = [arena_tree(rng, level + 1, sampler) for _ in range(count)]
    return [rng.choice(sampler.operators), *arguments]


def arena_length(tree) -> int:
    return 2 + sum(map(arena_length, tree[1:])) if isinstance(tree, list) else 1


def arena_sample(rng: random.Random, sampler: Sampler):
    while True:
        tree = arena_tree(rng, 1, sampler)
        if sampler.min_length <= arena_length(tree) <= sampler.max_length:
            return tree


def as_node(tree):
    return Node(tree[0], tuple(map(as_node, tree[1:]))) if isinstance(tree, list) else tree


def statistics(tree: Node) -> dict[str, int | str]:
    """Returns one number or name for each trait of a tree, so that samples of a trait are independent."""
    inner = [argument for argument in tree.arguments if isinstance(argument, Node)]
    numbers = values(tree)
    return {
        "length": length(tree),
        "depth": depth(tree),
        "operators": len(operators(tree)),
        "arguments of the root": len(tree.arguments),
        "arguments of the first inner operator": len(inner[0].arguments) if inner else 0,
        "place of the first inner operator": tree.arguments.index(inner[0]) if inner else -1,
        "deeper operators in the last inner operator": len(operators(inner[-1])) if inner else 0,
        "operator of the root": tree.operator,
        "operator of the last inner operator": inner[-1].operator if inner else "",
        "first value": numbers[0],
        "last value": numbers[-1],
    }


def assert_same_distribution(sampled: Counter, expected: Counter, what: str):
    """Two-sample chi-square at p = 0.0001; outcomes seen less than 20 times in all share one cell."""
    cells = [(sampled[k], expected[k]) for k in sorted(sampled | expected, key=str) if sampled[k] + expected[k] >= 20]
    rest = (sampled.total() - sum(a for a, _ in cells), expected.total() - sum(b for _, b in cells))
    a, b = np.array([*cells, rest] if sum(rest) else cells, float).T
    scale = np.sqrt(b.sum() / a.sum())
    chi_square = np.sum((a * scale - b / scale) ** 2 / (a + b))
    df = len(a) - 1
    # Wilson-Hilferty: the quantile of chi-square from the normal one, 3.72 at p = 0.0001.
    limit = df * (1 - 2 / (9 * df) + 3.72 * np.sqrt(2 / (9 * df))) ** 3 if df else 0.0
    assert chi_square <= limit, f"{what}: chi-square {chi_square:.1f} of {df} degrees exceeds {limit:.1f}"


@pytest.mark.parametrize(
    ("sampler", "count"),
    [
        (CONFIGS["tiny"].train, 6_000),
        (CONFIGS["listops30"].train, 1_000),
        # Shallow, so that the deepest level shows in most trees.
        (Sampler(range(3, 8), 5, 40, max_args=5, max_depth=4, operators=("MAX", "SUM")), 6_000),
    ],
    ids=["tiny", "listops30", "shallow"],
)
def test_distribution_is_that_of_the_long_range_arena(sampler, count):
    rng, arena_rng = random.Random(1), random.Random(2)
    sampled = [statistics(sampler.tree(rng)) for _ in range(count)]
    expected = [statistics(as_node(arena_sample(arena_rng, sampler))) for _ in range(count)]
    for trait in sampled[0]:
        assert_same_distribution(Counter(t[trait] for t in sampled), Counter(t[trait] for t in expected), trait)


def test_comparison_detects_another_sampler():
    rng = random.Random(1)
    shorter = Counter(depth(Sampler(range(10), 8, 24, max_args=4).tree(rng)) for _ in range(3_000))
    longer = Counter(depth(Sampler(range(10), 8, 27, max_args=4).tree(rng)) for _ in range(3_000))
    with pytest.raises(AssertionError, match="depth: chi-square"):
        assert_same_distribution(shorter, longer, "depth")


def test_trees_stay_within_limits():
    sampler = Sampler(range(30, 33), 15, 40, max_args=5, max_depth=4, operators=("MED", "MIN"))
    rng = random.Random(3)
    trees = [sampler.tree(rng) for _ in range(3_000)]
    assert {length(tree) for tree in trees} == set(range(15, 41))
    assert {value for tree in trees for value in values(tree)} == {30, 31, 32}
    assert {name for tree in trees for name in operators(tree)} == {"MED", "MIN"}
    assert max(depth(tree) for tree in trees) == 3
    assert {len(tree.arguments) for tree in trees} == {2, 3, 4, 5}


class OnlyRandom(random.Random):
    """Fails for anything but random(): Python changes the other methods' streams between versions."""

    def getrandbits(self, k):
        raise AssertionError("getrandbits() was called")


def test_only_random_is_called():
    sampler = CONFIGS["listops10"].train
    assert [sampler.tree(OnlyRandom(5)) for _ in range(3)] == [sampler.tree(random.Random(5)) for _ in range(3)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"values": range(0)}, r"values=range\(0, 0\) must hold"),
        ({"values": range(-1, 4)}, "numbers of 0 or more"),
        ({"min_length": 30, "max_length": 20}, "length from 30 to 20"),
        ({"max_length": 3, "min_length": 1}, "length from 1 to 3"),
        ({"max_args": 3, "max_depth": 2, "min_length": 6}, "lengths are 4 to 5"),
        ({"max_args": 1}, "max_args=1"),
        ({"max_depth": 1}, "max_depth=1"),
        ({"operators": ()}, "known: MIN, MAX, MED, SUM"),
        ({"operators": ("MAXX",)}, "did you mean 'MAX'"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(UserError, match=message):
        Sampler(**({"values": range(10), "min_length": 4, "max_length": 20} | settings))
