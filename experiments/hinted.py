"""The inputs of a teacher that explains with and without the answer: the expression alone, or with its answer after it.

`experiments/pipelines/teacher.toml` has the same words for `explainft teach`.
"""

from explainft import listops
from explainft.listops import Tree

HINTS = 2  # inputs of an expression: without, and with


def hinted(tree: Tree, index: int = 0) -> tuple[str, str]:
    """Returns inputs, with the answer as a hint where `index` is 1, and the explanation."""
    hint = f"\nFinal answer: {listops.evaluate(tree)}" if index else ""
    return listops.format(tree) + hint, listops.explain(tree, "medium")
