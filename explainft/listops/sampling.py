"""Samples ListOps trees as the Long Range Arena does (arXiv 2011.04006, its listops.py)."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from explainft.core.errors import UserError, nearest
from explainft.listops.expression import OPERATORS, Node, Tree

OPERATOR_PROBABILITY = 0.25  # of an argument above the deepest level; otherwise it is a value


@dataclass(frozen=True)
class Sampler:
    """Samples trees whose length is from `min_length` to `max_length`, both included.

    The root is an operator at level 1; an argument at level `max_depth` is always a value. An operator has 2 to
    `max_args` arguments. Operators, values and numbers of arguments are uniform. Trees of other lengths are
    rejected, so rare lengths take long. Raises UserError for settings that allow no tree.
    """

    values: Sequence[int]
    min_length: int  # an operator with its bracket counts 2, a value 1
    max_length: int
    max_args: int = 10
    max_depth: int = 10
    operators: tuple[str, ...] = OPERATORS

    def __post_init__(self):
        if not self.values or min(self.values) < 0:
            raise UserError(f"values={self.values} must hold numbers of 0 or more, for example range(10)")
        if self.max_args < 2 or self.max_depth < 2:
            raise UserError(f"max_args={self.max_args} and max_depth={self.max_depth} must each be at least 2")
        longest = 1
        for _ in range(self.max_depth - 1):
            longest = 2 + self.max_args * longest
        if not max(4, self.min_length) <= min(self.max_length, longest):
            raise UserError(
                f"no tree has a length from {self.min_length} to {self.max_length}: with max_args={self.max_args} and "
                f"max_depth={self.max_depth} lengths are 4 to {longest}"
            )
        if not self.operators:
            raise UserError(f"operators=() is empty; known: {', '.join(OPERATORS)}")
        for operator in self.operators:
            if operator not in OPERATORS:
                raise UserError(f"unknown operator {operator!r}{nearest(operator, OPERATORS)}")

    def tree(self, rng: random.Random) -> Node:
        """Samples one tree. It calls only `rng.random()`, whose stream is the same on every version of Python."""
        arities = self._arities(rng)
        while arities is None:
            arities = self._arities(rng)
        uniform, values, operators = rng.random, self.values, self.operators
        n_values, n_operators = len(values), len(operators)
        trees: list[Tree] = []  # complete, but no argument yet; the leftmost on top
        for arity in reversed(arities):
            if arity:
                arguments = tuple(trees[: -arity - 1 : -1])
                del trees[-arity:]
                trees.append(Node(operators[int(uniform() * n_operators)], arguments))
            else:
                trees.append(values[int(uniform() * n_values)])
        [root] = trees
        assert isinstance(root, Node)
        return root

    def _arities(self, rng: random.Random) -> list[int] | None:
        """Samples a shape: the number of arguments of every node in prefix order, 0 for a value.

        Returns None where the length does not fit. Only the shape decides that, so operators and values are sampled
        later. A shape is rejected as soon as its minimum length, with the arguments left as values, is too long.
        """
        uniform, max_length, choices = rng.random, self.max_length, self.max_args - 1
        inner_levels = self.max_depth - 2  # where an argument may be an operator
        left = 2 + int(uniform() * choices)  # arguments left of the open operator
        outer: list[int] = []  # arguments left of the enclosing operators, from the root on
        arities = [left]
        length = 2 + left
        while True:
            while left:
                left -= 1
                chance = uniform()
                if chance >= OPERATOR_PROBABILITY or len(outer) == inner_levels:
                    arities.append(0)
                    continue
                # Below the probability, the same number is uniform again.
                arity = 2 + int(chance / OPERATOR_PROBABILITY * choices)
                length += 1 + arity  # counted as a value so far
                if length > max_length:
                    return None
                arities.append(arity)
                outer.append(left)
                left = arity
            if not outer:
                return arities if self.min_length <= length <= max_length else None
            left = outer.pop()
