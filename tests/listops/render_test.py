from explainft.listops.expression import Node, parse
from explainft.listops.render import render_tree


def test_tree_has_a_line_a_node():
    assert render_tree(parse("[MAX 2 [MIN 4 [SUM 7 8 ] ] 0 [MED 1 2 ] ]")).split("\n") == [
        "MAX = 4",
        "├─ 2",
        "├─ MIN = 4",
        "│  ├─ 4",
        "│  └─ SUM = 5",
        "│     ├─ 7",
        "│     └─ 8",
        "├─ 0",
        "└─ MED = 1",
        "   ├─ 1",
        "   └─ 2",
    ]


def test_bare_number_and_modulus():
    assert render_tree(7) == "7"
    assert render_tree(parse("[SUM 7 8 ]"), modulus=100).startswith("SUM = 15\n")


def test_deep_nesting():
    tree = 3
    for _ in range(2_000):
        tree = Node("MAX", (tree,))
    lines = render_tree(tree).split("\n")
    assert len(lines) == 2_001
    assert lines[0] == "MAX = 3"
    assert lines[-1] == "   " * 1_999 + "└─ 3"
