from explainft.listops.expression import Node, parse
from explainft.listops.render import render_tree


def test_every_node_is_a_line_and_every_operator_shows_its_value():
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


def test_a_number_alone_and_another_modulus():
    assert render_tree(7) == "7"
    assert render_tree(parse("[SUM 7 8 ]"), modulus=100).startswith("SUM = 15\n")


def test_nesting_past_the_recursion_limit():
    tree = 3
    for _ in range(2_000):
        tree = Node("MAX", (tree,))
    lines = render_tree(tree).split("\n")
    assert len(lines) == 2_001
    assert lines[0] == "MAX = 3"
    assert lines[-1] == "   " * 1_999 + "└─ 3"
