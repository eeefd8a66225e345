import random
import re

import pytest

from explainft.listops import (
    ERROR_KINDS,
    STYLES,
    FirstError,
    ListOpsError,
    Node,
    check,
    evaluate,
    explain,
    first_error,
    lines_of_step,
    parse,
)

STEP_STYLES = ("short", "medium", "long")
SHOWING_LISTS = ("medium", "long")
TREE = parse("[SUM 7 [MIN 4 6 ] [MED 9 2 8 ] [MAX 1 5 3 ] ]")  # MIN 4, MED 8, MAX 5, SUM 24 -> 4

LINES = {
    "medium": [
        "Min, smallest number of [4, 6] is 4",
        "MED, sorted list, [2, 8, 9], MEDIAN is 8",
        "Max, largest number of [1, 5, 3] is 5",
        "SUM, add [7, 4, 8, 5], sum is 24, answer is 4",
        "Final answer: 4",
    ],
    "short": ["Min, 4", "MED, 8", "Max, 5", "SUM, 4", "Final answer: 4"],
    "long": explain(TREE, "long").split("\n"),
}


def of(style: str, *lines: str) -> FirstError | None:
    return first_error("\n".join(lines), TREE, style)


def with_line(style: str, k: int, line: str) -> FirstError | None:
    lines = list(LINES[style])
    lines[k] = line
    return of(style, *lines)


def random_tree(rng, levels=4):
    children = [
        random_tree(rng, levels - 1) if levels > 1 and rng.random() < 0.3 else rng.randrange(10)
        for _ in range(rng.randint(1, 5))
    ]
    return Node(rng.choice(["MIN", "MAX", "MED", "SUM"]), tuple(children))


@pytest.mark.parametrize("style", STEP_STYLES)
def test_lines_of_these_tests_are_gold(style):
    assert LINES[style] == explain(TREE, style).split("\n")
    assert of(style, *LINES[style]) is None


# ---- each kind


@pytest.mark.parametrize(
    "style, k, line",
    [
        ("short", 0, "Max, 6"),
        ("short", 2, "SUM, 9"),
        ("short", 2, "SUM, 4"),  # also the last step, but all others are in place
        ("medium", 0, "Max, largest number of [4, 6] is 6"),
        ("medium", 1, "Min, smallest number of [9, 2, 8] is 2"),
        ("medium", 2, "MED, sorted list, [1, 3, 5], MEDIAN is 3"),
        ("medium", 3, "Max, largest number of [7, 0] is 7"),  # a list that no step has
        ("long", 0, LINES["long"][0].replace("MIN", "MAX").replace("smallest", "largest")),
    ],
)
def test_operator_error(style, k, line):
    assert with_line(style, k, line) == FirstError("operator", k)


@pytest.mark.parametrize(
    "style, k, line",
    [
        ("medium", 0, "Min, smallest number of [4, 7] is 4"),
        ("medium", 0, "Min, smallest number of [4] is 4"),
        ("medium", 0, "Min, smallest number of [4, 6, 6] is 4"),
        ("medium", 0, "Min, smallest number of [6, 4] is 4"),
        ("medium", 1, "MED, sorted list, [2, 8, 8], MEDIAN is 8"),
        ("medium", 3, "SUM, add [7, 4, 8, 6], sum is 25, answer is 5"),
        ("medium", 0, "Min, smallest number of [9, 2, 8] is 2"),  # the list of the MED, under the correct operator
        ("long", 2, LINES["long"][2].replace("[1 5 3]", "[1 5 5]")),
        ("long", 1, LINES["long"][1].replace("numbers [9 2 8]", "numbers [9 2 7]")),
    ],
)
def test_copy_error(style, k, line):
    assert with_line(style, k, line) == FirstError("copy", k)


@pytest.mark.parametrize(
    "style, k, line",
    [
        ("short", 0, "Min, 6"),
        ("short", 3, "SUM, 5"),
        ("medium", 0, "Min, smallest number of [4, 6] is 6"),
        ("medium", 1, "MED, sorted list, [9, 2, 8], MEDIAN is 8"),
        ("medium", 1, "MED, sorted list, [2, 8, 9], MEDIAN is 9"),
        ("medium", 3, "SUM, add [7, 4, 8, 5], sum is 25, answer is 4"),
        ("medium", 3, "SUM, add [7, 4, 8, 5], sum is 24, answer is 2"),
        ("long", 1, LINES["long"][1].replace("sorted list [2 8 9]", "sorted list [2 9 8]")),
        ("long", 1, LINES["long"][1].replace("middle 8", "middle 9")),
        ("long", 2, LINES["long"][2].replace("so far 1 5 5", "so far 1 5 3")),
        ("long", 3, LINES["long"][3].replace("7 11 19 24", "7 11 18 24")),
    ],
)
def test_arithmetic_error(style, k, line):
    assert line != LINES[style][k]
    assert with_line(style, k, line) == FirstError("arithmetic", k)


@pytest.mark.parametrize("style", STEP_STYLES)
def test_missing_surplus_and_swapped_steps_are_list_errors(style):
    a, b, c, d, final = LINES[style]
    assert of(style, b, c, d, final) == FirstError("list", 0)
    assert of(style, a, c, d, final) == FirstError("list", 1)
    assert of(style, a, b, c, final) == FirstError("list", 3)
    assert of(style, a, c, b, d, final) == FirstError("list", 1)
    assert of(style, a, a, b, c, d, final) == FirstError("list", 1)
    assert of(style, a, b, c, d, d, final) == FirstError("list", 4)
    assert of(style, final) == FirstError("list", 0)


@pytest.mark.parametrize("style", SHOWING_LISTS)
def test_list_of_another_step_is_a_list_error(style):
    a, b, c, d, final = LINES[style]
    wrong_too = c.replace("is 5", "is 3")
    assert wrong_too != c
    assert of(style, wrong_too, b, c, d, final) == FirstError("list", 0)
    assert of(style, a, wrong_too, c, d, final) == FirstError("list", 1)


@pytest.mark.parametrize("garbage", ["Min, smallest", "", "SUM add 3", "Final answer: 4", "<b>", "Min, x"])
@pytest.mark.parametrize("style", STEP_STYLES)
def test_invalid_step_is_malformed(style, garbage):
    a, b, c, d, final = LINES[style]
    assert first_error(";".join([a, garbage, c, d, final]), TREE, style) == FirstError("malformed", 1)
    assert first_error(";".join([a, b, c, d, garbage, final]), TREE, style) == FirstError("malformed", 4)


@pytest.mark.parametrize("style", STEP_STYLES)
def test_missing_answer_is_malformed_at_the_end(style):
    *lines, final = LINES[style]
    assert of(style, *lines) == FirstError("malformed", None)
    assert of(style, *lines, "Final answer: four") == FirstError("malformed", None)
    assert of(style, *lines[:2]) == FirstError("malformed", 2)
    assert of(style) == FirstError("malformed", 0)


@pytest.mark.parametrize("style", STEP_STYLES)
def test_incorrect_answer_after_correct_steps(style):
    *lines, _ = LINES[style]
    assert of(style, *lines, "Final answer: 5") == FirstError("answer", None)


def test_style_none_has_only_an_answer():
    assert of("none", "4") is of("none", "Final answer: 4") is None
    assert of("none", "5") == of("none", "Final answer: 24") == FirstError("answer", None)
    assert of("none") == of("none", "four") == FirstError("malformed", None)


@pytest.mark.parametrize("style", STEP_STYLES)
def test_first_error_counts(style):
    a, b, c, d, _ = LINES[style]
    assert of(style, a, "garbage", d, c, "Final answer: 9") == FirstError("malformed", 1)


def test_modulus():
    tree = parse("[SUM 15 27 1 ]")
    text = explain(tree, "medium", 30)
    assert first_error(text, tree, "medium", 30) is None
    assert first_error(text, tree, "medium") == FirstError("arithmetic", 0)


def test_unknown_style():
    with pytest.raises(ListOpsError, match="unknown style 'shuffled'"):
        first_error("4", TREE, "shuffled")


# ---- whatever the text


def corrupt(text: str, rng: random.Random) -> str:
    """Returns the text, or one with one to three changes of a number, a word, a line or a character."""
    for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
        lines = text.split("\n")
        i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
        change = rng.randrange(6)
        if change == 0:
            lines[i], lines[j] = lines[j], lines[i]
        elif change == 1:
            lines = lines[:i] + lines[i + 1 :]
        elif change == 2:
            lines.insert(i, lines[j])
        elif change == 3:
            lines[i] = re.sub("[0-9]+", lambda match: rng.choice([match[0], str(rng.randrange(30))]), lines[i])
        elif change == 4:
            lines[i] = lines[i].replace("Min", "Max").replace("smallest", "largest").replace("MIN", "MAX")
        else:
            at = rng.randrange(len(lines[i]) + 1)
            lines[i] = lines[i][:at] + rng.choice("3 ,;]x\n") + lines[i][at + 1 :]
        text = "\n".join(lines)
    return text


@pytest.mark.parametrize("style", STYLES)
def test_error_exists_exactly_where_check_is_invalid(style):
    rng = random.Random(5)
    seen = set()
    for _ in range(3000):
        tree = random_tree(rng)
        text = corrupt(explain(tree, style), rng)
        checked = check(text, tree, style)
        found = first_error(text, tree, style)
        assert (found is None) == checked.valid, text
        if found:
            assert found.kind in ERROR_KINDS
            assert found.step == checked.first_wrong_step
            if found.kind == "answer":
                assert checked.final_answer not in (None, evaluate(tree))
        seen.add(found.kind if found else None)
    unseen = {"none": set(ERROR_KINDS) - {"answer", "malformed"}, "short": {"copy"}}
    assert seen == {None, *ERROR_KINDS} - unseen.get(style, set())


def test_lines_of_a_step():
    tree = parse("[MAX 2 9 [MIN 4 7 ] 0 ]")
    gold = explain(tree, "medium").split("\n")
    text = f"{gold[0]};Max, largest  number of [3] is 3 {gold[-1]}"
    assert lines_of_step(text, tree, "medium", 0) == (gold[0], gold[0])
    assert lines_of_step(text, tree, "medium", 1) == (gold[1], "Max, largest  number of [3] is 3")
    assert lines_of_step(gold[0], tree, "medium", 1) == (gold[1], None)
    assert lines_of_step("\n".join([*gold[:2], "more", gold[2]]), tree, "medium", 2) == (None, "more")
