"""Renders a ListOps expression as a tree of text lines."""

from explainft.listops.explain import steps
from explainft.listops.expression import Node, Tree, walk


def render_tree(tree: Tree, modulus: int = 10) -> str:
    """Returns one line a node, an operator with its value: `[MAX 2 [MIN 4 7 ] 0 ]` is

    MAX = 4
    ├─ 2
    ├─ MIN = 4
    │  ├─ 4
    │  └─ 7
    └─ 0
    """
    answers = iter([step.answer for step in steps(tree, "short", modulus)])  # in the order in which operators close
    lines: list[str] = []
    open_operators: list[tuple[int, int, str]] = []  # line, arguments left, their prefix
    for part in walk(tree):
        if part is None:
            line, _, _ = open_operators.pop()
            lines[line] += f" = {next(answers)}"
            continue
        branch = rail = ""
        if open_operators:
            line, left, before = open_operators.pop()
            open_operators.append((line, left - 1, before))
            branch, rail = (before + "├─ ", before + "│  ") if left > 1 else (before + "└─ ", before + "   ")
        if isinstance(part, Node):
            open_operators.append((len(lines), len(part.arguments), rail))
        lines.append(branch + (part.operator if isinstance(part, Node) else str(part)))
    return "\n".join(lines)
