import copy
import math
import pickle
import random
import statistics

import pytest

from explainft.listops import ListOpsError, Node, depth, evaluate, format, length, operators, parse, values

CLASSIC = "[MED 6 [SUM 7 5 ] 5 [MAX 9 6 6 0 7 1 0 4 3 ] 1 2 1 ]"
# As released: the explained training rows spell MEDIAN.
RELEASED = (
    "( ( ( ( ( ( ( ( [MEDIAN 6 ) ( ( ( [SUM 7 ) 5 ) ] ) ) 5 ) ( ( ( ( ( ( ( ( ( ( [MAX 9 ) 6 ) 6 ) 0 ) 7 ) 1 ) 0 ) "
    "4 ) 3 ) ] ) ) 1 ) 2 ) 1 ) ] )"
)
LEVELS = 20_000
TREE_OR_END = "an integer of 0 or more, '[' with an operator or ']'"


def random_tree(rng, budget=40):
    """Returns a tree of any shape, with single arguments and bare numbers."""
    if budget < 2 or rng.random() < 0.3:
        return rng.choice([rng.randrange(10), rng.randrange(30), rng.randrange(10**18)])
    arguments = rng.randint(1, 6)
    return Node(
        rng.choice(["MIN", "MAX", "MED", "SUM"]), tuple(random_tree(rng, budget // arguments) for _ in range(arguments))
    )


def small_tree(rng, levels=4):
    """Returns a tree of numbers for which statistics.median divides exactly."""
    if levels == 0 or rng.random() < 0.4:
        return rng.randrange(100)
    return Node(
        rng.choice(["MIN", "MAX", "MED", "SUM"]),
        tuple(small_tree(rng, levels - 1) for _ in range(rng.randint(1, 5))),
    )


def deep_tree(levels=LEVELS, operator="MAX"):
    tree = 1
    for _ in range(levels):
        tree = Node(operator, (tree, 2))
    return tree


def test_hand_worked():
    tree = parse("[MAX 2 9 [MIN 4 7 ] 0 ]")
    assert tree == Node("MAX", (2, 9, Node("MIN", (4, 7)), 0))
    assert evaluate(tree) == 9
    assert format(tree) == repr(tree) == "[MAX 2 9 [MIN 4 7 ] 0 ]"
    assert format(tree, "parenthesized") == "( ( ( ( ( [MAX 2 ) 9 ) ( ( ( [MIN 4 ) 7 ) ] ) ) 0 ) ] )"
    assert (length(tree), depth(tree)) == (9, 2)
    assert operators(tree) == ["MIN", "MAX"]
    assert values(tree) == [2, 9, 4, 7, 0]


def test_released_forms_are_one_tree():
    tree = parse(CLASSIC)
    assert parse(RELEASED) == tree
    assert parse(CLASSIC.replace("SUM", "SM").replace("MED", "MEDIAN")) == tree
    assert format(tree) == CLASSIC
    assert format(tree, "parenthesized") == RELEASED.replace("MEDIAN", "MED")
    assert evaluate(tree) == 2
    assert operators(tree) == ["SUM", "MAX", "MED"]


@pytest.mark.parametrize(
    "text, answer",
    [
        ("[MED 9 4 ]", 6),
        ("[MED 4 ]", 4),
        ("[MED 3 1 2 ]", 2),
        ("[MED 0 29 1 28 ]", 14),
        ("[SUM 15 27 1 ]", 3),
        ("[SUM 5 5 ]", 0),
        ("[MIN 7 3 3 ]", 3),
        ("[MAX 29 ]", 29),
        ("[SUM [MAX 8 9 ] [SUM 9 9 ] ]", 7),
        ("35", 35),
    ],
)
def test_answers(text, answer):
    assert evaluate(parse(text)) == answer


def test_modulus():
    tree = parse("[SUM 15 27 1 ]")
    assert evaluate(tree, modulus=30) == 13
    assert evaluate(tree, modulus=100) == 43
    for modulus in (0, -1, 10**19, 2.5):
        with pytest.raises(ListOpsError, match="modulus="):
            evaluate(tree, modulus=modulus)


def recursive_answer(tree, modulus):
    if isinstance(tree, int):
        return tree
    arguments = [recursive_answer(argument, modulus) for argument in tree.arguments]
    median = math.floor(statistics.median(arguments))
    return {"MIN": min(arguments), "MAX": max(arguments), "MED": median, "SUM": sum(arguments) % modulus}[tree.operator]


def test_evaluate_against_recursion():
    rng = random.Random(1)
    for _ in range(3000):
        tree, modulus = small_tree(rng), rng.randint(1, 40)
        assert evaluate(tree, modulus) == recursive_answer(tree, modulus)


def recursive_depth(tree):
    return 0 if isinstance(tree, int) else 1 + max(map(recursive_depth, tree.arguments))


def test_round_trips_and_measures():
    rng = random.Random(2)
    for _ in range(3000):
        tree = random_tree(rng)
        text = format(tree)
        assert parse(text) == tree
        assert parse(format(tree, "parenthesized")) == tree
        assert parse(text.replace(" [", "[").replace(" ]", "]").replace(" ", rng.choice("\n\t\r "))) == tree
        words = text.split()
        assert length(tree) == len(words)
        assert depth(tree) == recursive_depth(tree)
        assert values(tree) == [int(word) for word in words if word.isdigit()]
        assert sorted(operators(tree)) == sorted(word[1:] for word in words if word.startswith("["))


@pytest.mark.parametrize("text", ["[MAX 2[MIN 4 7]0]", "[MAX 2 [MIN 4 7 ]0 ]", " [MAX\n2\t[MIN 4\r\n7 ] 0 ]\n"])
def test_whitespace(text):
    assert parse(text) == Node("MAX", (2, Node("MIN", (4, 7)), 0))


def test_equality_is_by_value():
    tree = parse(CLASSIC)
    other = parse(CLASSIC)
    assert tree == other and tree is not other and hash(tree) == hash(other) and len({tree, other}) == 1
    assert tree != parse(CLASSIC.replace("SUM", "MAX"))
    assert Node("MAX", (1, 2)) != Node("MAX", (12,)) != Node("MAX", (2, 1))
    assert Node("MAX", (1,)) != 1 and Node("MAX", (1,)) != "[MAX 1 ]"
    for same in (pickle.loads(pickle.dumps(tree)), copy.copy(tree), copy.deepcopy(tree)):
        assert same == tree and isinstance(same, Node)


def test_nodes_are_immutable():
    node = Node("MAX", (1, 2))
    with pytest.raises(AttributeError):
        node.operator = "MIN"
    with pytest.raises((AttributeError, TypeError)):  # slots leave no room for another name
        node.answer = 2


@pytest.mark.parametrize(
    "operator, arguments, error",
    [
        ("MAXIM", (1,), "unknown operator 'MAXIM'; did you mean 'MAX'?"),
        ("AVG", (1,), "unknown operator 'AVG'; known: MAX, MED, MIN, SUM"),
        ("MAX", (), "MAX needs a tuple of one or more arguments, got ()"),
        ("MAX", [1], "MAX needs a tuple of one or more arguments, got [1]"),
        ("MAX", (-1,), "got int -1"),
        ("MAX", (10**18,), "got int 1000000000000000000"),
        ("MAX", (True,), "got bool True"),
        ("MAX", ("2",), "got str '2'"),
    ],
)
def test_invalid_nodes(operator, arguments, error):
    with pytest.raises(ListOpsError) as caught:
        Node(operator, arguments)
    assert str(caught.value).endswith(error)


@pytest.mark.parametrize(
    "text, error",
    [
        ("", "at character 0: expected a number or '[' with an operator, found the end of the text"),
        (" \n ", "at character 3: expected a number or '[' with an operator, found the end of the text"),
        ("[MAXX 2 ]", "at character 0: unknown operator 'MAXX'; did you mean 'MAX'?"),
        ("[MIN 1 [median 2 ] ]", "at character 7: unknown operator 'median'; did you mean 'MEDIAN'?"),
        ("[AVG 2 ]", "at character 0: unknown operator 'AVG'; known: MAX, MED, MEDIAN, MIN, SM, SUM"),
        ("[7 5 ]", "at character 0: unknown operator '7'; known: MAX, MED, MEDIAN, MIN, SM, SUM"),
        ("[ ]", "at character 0: expected an operator (MIN, MAX, MED, SUM) after '[', found '['"),
        ("[MAX ]", "at character 5: expected an argument of MAX, found ']'"),
        ("[MAX 1 [SM ] ]", "at character 11: expected an argument of SUM, found ']'"),
        ("[MAX 2", "at character 6: expected ']' to close the MAX at character 0, found the end of the text"),
        ("[MAX 2 [MIN 3 ]", "at character 15: expected ']' to close the MAX at character 0, found the end of the text"),
        ("[MAX 2 ] ]", "at character 9: expected the end of the text, found ']'"),
        ("]", "at character 0: expected a number or '[' with an operator, found ']'"),
        ("[MAX 2 ] [MIN 3 ]", "at character 9: expected the end of the text, found '[MIN'"),
        ("2 3", "at character 2: expected the end of the text, found '3'"),
        ("[MAX 2 -3 ]", f"at character 7: expected {TREE_OR_END}, found '-3'"),
        ("[MAX 2, 3 ]", f"at character 5: expected {TREE_OR_END}, found '2,'"),
        ("[MAX 2 9.5 ]", f"at character 7: expected {TREE_OR_END}, found '9.5'"),
        ("[MAX ٣ ]", f"at character 5: expected {TREE_OR_END}, found '٣'"),
        ("MAX 2 3", f"at character 0: expected {TREE_OR_END}, found 'MAX'"),
        ("[MAX " + "1" * 19 + " ]", "at character 5: expected at most 18 digits, found a number of 19"),
        ("9" * 5000, "at character 0: expected at most 18 digits, found a number of 5000"),
        ("[MAX " + "x" * 99, f"at character 5: expected {TREE_OR_END}, found '{'x' * 40}...'"),
        ("( 5 )", "at character 0: expected '5', found '('"),
        ("[MAX 2 )", "at character 8: expected ']' to close the MAX at character 0, found the end of the text"),
        ("( ( [MAX 2 ) ] ", "at character 15: expected ')', found the end of the text"),
        ("( ( [MAX 2 ) ] ) )", "at character 17: expected the end of the text, found ')'"),
        ("( [MAX 2 ) ] )", "at character 2: expected '(', found '[MAX'"),
        ("( ( ( [MAX 2 ) ] )", "at character 4: expected '[MAX', found '('"),
        ("( ( ( [MAX 2 9 ) ) ] )", "at character 13: expected ')', found '9'"),
        ("( ( ( [MAX 2 ) 9 ] ) )", "at character 17: expected ')', found ']'"),
        ("( ( ( [MAX ( 2 ) ) 9 ) ] )", "at character 11: expected '2', found '('"),
        ("( ( ( [MAX 2 ) [MIN 3 ] ) ] )", "at character 15: expected '(', found '[MIN'"),
        ("[MAX ( ( [MIN 2 ) ] ) ]", "at character 0: expected '(', found '[MAX'"),
    ],
)  # fmt: skip
def test_invalid_expressions(text, error):
    with pytest.raises(ListOpsError) as caught:
        parse(text)
    assert str(caught.value) == error


def test_misplaced_parentheses():
    words = RELEASED.split()
    places = [at for at, word in enumerate(words) if word in "()"]
    for at in places:
        without = words[:at] + words[at + 1 :]
        for damaged in (without, words[:at] + [words[at]] + words[at:], [*without, words[at]]):
            if damaged != words:
                with pytest.raises(ListOpsError, match="^at character"):
                    parse(" ".join(damaged))


def test_unknown_form():
    with pytest.raises(ListOpsError, match="unknown form 'brackets'; did you mean 'bracket'?"):
        format(5, "brackets")


def test_bare_number_is_a_tree():
    assert parse(" 7 ") == 7
    assert (format(7), format(7, "parenthesized")) == ("7", "7")
    assert (evaluate(7), length(7), depth(7), operators(7), values(7)) == (7, 1, 0, [], [7])


def test_deep_nesting():
    tree = deep_tree()
    text = "[MAX " * LEVELS + "1" + " 2 ]" * LEVELS
    assert format(tree) == repr(tree) == text
    assert parse(text) == tree and hash(parse(text)) == hash(tree)
    assert parse(format(tree, "parenthesized")) == tree
    assert tree != deep_tree(operator="MIN") and tree != deep_tree(LEVELS - 1)
    assert pickle.loads(pickle.dumps(tree)) == tree == copy.deepcopy(tree)
    assert (evaluate(tree), depth(tree), length(tree)) == (2, LEVELS, 3 * LEVELS + 1)
    assert (len(operators(tree)), len(values(tree))) == (LEVELS, LEVELS + 1)
    del tree  # the tree's own deletion must not recurse either
    with pytest.raises(ListOpsError, match=f"to close the MAX at character {5 * LEVELS - 5}, found the end"):
        parse("[MAX " * LEVELS + "1")
