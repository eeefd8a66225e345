"""Hypothesis strategies of values that several properties speak about."""

from hypothesis import strategies as st

from explainft.listops import OPERATORS, Node

MODULI = st.integers(2, 100)


def expressions(largest=10**18 - 1):
    """Returns trees of any shape: numbers, and operators with one to five arguments."""
    numbers = st.integers(0, largest)
    nodes = st.recursive(
        numbers,
        lambda trees: st.builds(
            lambda operator, arguments: Node(operator, tuple(arguments)),
            st.sampled_from(OPERATORS),
            st.lists(trees, min_size=1, max_size=5),
        ),
        max_leaves=20,
    )
    return nodes
