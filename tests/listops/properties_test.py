"""Properties of expressions and explanations that hold for every tree and every text."""

from hypothesis import given
from hypothesis import strategies as st

from explainft import listops
from explainft.listops import Node
from explainft.listops.expression import FORMS
from tests.helpers.strategies import MODULI, expressions

styles = st.sampled_from(listops.STYLES)
explained = st.sampled_from([style for style in listops.STYLES if style != "none"])
nodes = expressions(largest=99).filter(lambda tree: isinstance(tree, Node))


@given(expressions(), st.sampled_from(FORMS))
def test_parse_reads_what_format_writes(tree, form):
    text = listops.format(tree, form)
    assert listops.parse(text) == tree
    assert listops.format(listops.parse(text), form) == text


@given(expressions(), MODULI)
def test_value_is_that_of_a_recursive_definition(tree, modulus):
    def value(tree):
        if not isinstance(tree, Node):
            return tree
        found = sorted(map(value, tree.arguments))
        middle = found[len(found) // 2 - (len(found) % 2 == 0) : len(found) // 2 + 1]
        return {
            "MIN": found[0],
            "MAX": found[-1],
            "MED": sum(middle) // len(middle),
            "SUM": sum(found) % modulus,
        }[tree.operator]

    assert listops.evaluate(tree, modulus) == value(tree)


@given(nodes, styles, MODULI)
def test_every_explanation_is_valid_and_names_the_value(tree, style, modulus):
    text = listops.explain(tree, style, modulus)
    check = listops.check(text, tree, style, modulus)
    steps = 0 if style == "none" else len(listops.operators(tree))
    assert check.valid and check.steps_correct == check.steps_total == steps
    assert listops.final_answer(text) == check.final_answer == listops.evaluate(tree, modulus)
    assert listops.first_error(text, tree, style, modulus) is None


@given(nodes, explained, MODULI, st.data())
def test_a_changed_line_is_the_first_error(tree, style, modulus, data):
    """Another result on one line makes that step wrong, and no earlier one."""
    lines = listops.explain(tree, style, modulus).split("\n")
    at = data.draw(st.integers(0, len(lines) - 2))
    head, _, result = lines[at].rpartition(" ")
    lines[at] = f"{head} {int(result) + 1}"
    check = listops.check("\n".join(lines), tree, style, modulus)
    assert not check.valid and check.first_wrong_step == at


@given(st.text(alphabet="[]()MINAXEDSUF 0123456789\n\té", max_size=60))
def test_any_text_is_a_tree_or_a_named_error(text):
    try:
        tree = listops.parse(text)
    except listops.ListOpsError as error:
        assert "at character" in error.line and "\n" not in error.line
    else:
        assert listops.parse(listops.format(tree)) == tree


@given(st.text(max_size=200), nodes, styles)
def test_any_text_can_be_checked(text, tree, style):
    check = listops.check(text, tree, style)
    assert 0 <= check.steps_correct <= check.steps_total
    assert not (check.valid and check.final_answer is None)
