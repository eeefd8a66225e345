import random
import re
import time

import pytest

from explainft.listops import (
    STYLES,
    Check,
    Explanation,
    ListOpsError,
    Node,
    Step,
    check,
    evaluate,
    explain,
    final_answer,
    lines,
    parse,
    read,
    steps,
)

STEP_STYLES = ("short", "medium", "long")
RELEASED = parse("[MED 6 [SUM 7 5 ] 5 [MAX 9 6 6 0 7 1 0 4 3 ] 1 2 1 ]")
SEPARATORS = ("\n", " ", ";", " ; ", "\r\n", "\n\n", "; ", ";\n")

WRITTEN = {
    "none": "2",
    "short": "SUM, 2\nMax, 9\nMED, 2\nFinal answer: 2",
    # As released, byte for byte.
    "medium": """SUM, add [7, 5], sum is 12, answer is 2
Max, largest number of [9, 6, 6, 0, 7, 1, 0, 4, 3] is 9
MED, sorted list, [1, 1, 2, 2, 5, 6, 9], MEDIAN is 2
Final answer: 2""",
    "long": """SUM operator so we have to add the numbers [7 5], running sums 7 12, sum is 12 so the answer is 2
MAX operator so we have to find the largest of the numbers [9 6 6 0 7 1 0 4 3], \
largest so far 9 9 9 9 9 9 9 9 9, so the answer is 9
MED operator so we have to find the median of the numbers [6 2 5 9 1 2 1], \
sorted list [1 1 2 2 5 6 9], middle 2, so the answer is 2
Final answer: 2""",
}


def random_tree(rng, levels=4, values=30):
    operator = rng.choice(["MIN", "MAX", "MED", "SUM"])
    children = [
        random_tree(rng, levels - 1, values) if levels > 1 and rng.random() < 0.3 else rng.randrange(values)
        for _ in range(rng.randint(1, 6))
    ]
    return Node(operator, tuple(children))


@pytest.mark.parametrize("style", STYLES)
def test_released_example(style):
    assert explain(RELEASED, style) == WRITTEN[style]


@pytest.mark.parametrize(
    "text, style, line",
    [
        ("[MIN 4 7 ]", "medium", "Min, smallest number of [4, 7] is 4"),
        ("[MED 9 4 ]", "medium", "MED, sorted list, [4, 9], MEDIAN is 6"),
        ("[SUM 15 27 1 ]", "medium", "SUM, add [15, 27, 1], sum is 43, answer is 3"),
        ("[SUM 3 ]", "medium", "SUM, add [3], sum is 3, answer is 3"),
        ("[MIN 4 7 ]", "short", "Min, 4"),
        ("[MIN 4 7 ]", "long", "MIN operator so we have to find the smallest of the numbers [4 7], "
         "smallest so far 4 4, so the answer is 4"),
        ("[MAX 2 9 4 ]", "long", "MAX operator so we have to find the largest of the numbers [2 9 4], "
         "largest so far 2 9 9, so the answer is 9"),
        ("[MED 9 4 ]", "long", "MED operator so we have to find the median of the numbers [9 4], "
         "sorted list [4 9], middle 4 9, so the answer is 6"),
        ("[MED 6 2 5 ]", "long", "MED operator so we have to find the median of the numbers [6 2 5], "
         "sorted list [2 5 6], middle 5, so the answer is 5"),
    ],
)  # fmt: skip
def test_lines(text, style, line):
    tree = parse(text)
    assert explain(tree, style) == f"{line}\nFinal answer: {evaluate(tree)}"


def test_step_has_the_numbers_of_its_style():
    tree = parse("[SUM 7 [MED 9 4 ] ]")
    assert steps(tree, "none") == []
    assert steps(tree, "short") == [Step("MED", (), (), 6), Step("SUM", (), (), 3)]
    assert steps(tree, "medium") == [Step("MED", (), ((4, 9),), 6), Step("SUM", (7, 6), ((13,),), 3)]
    everything = [Step("MED", (9, 4), ((4, 9), (4, 9)), 6), Step("SUM", (7, 6), ((7, 13), (13,)), 3)]
    assert steps(tree, "long") == steps(tree) == everything
    assert steps(tree, "short", modulus=30)[-1].answer == 13


def test_modulus():
    tree = parse("[SUM 15 27 1 ]")
    assert explain(tree, "medium", modulus=30) == "SUM, add [15, 27, 1], sum is 43, answer is 13\nFinal answer: 13"
    assert check(explain(tree, "long", modulus=30), tree, "long", modulus=30).valid
    assert not check(explain(tree, "long", modulus=30), tree, "long").answer_correct


@pytest.mark.parametrize("style", STYLES)
def test_read_inverts_explain(style):
    rng = random.Random(3)
    for _ in range(1000):
        values, modulus = rng.choice([(10, 10), (30, 10), (10**18, 10**18)])
        tree = random_tree(rng, values=values)
        gold = steps(tree, style, modulus)
        written = explain(tree, style, modulus)
        for separator in SEPARATORS:
            text = written.replace("\n", separator)
            assert read(text, style) == Explanation(tuple(gold), evaluate(tree, modulus))
            assert check(text, tree, style, modulus) == Check(evaluate(tree, modulus), True, len(gold), len(gold), None)


@pytest.mark.parametrize("style", STEP_STYLES)
def test_whitespace_and_leading_zeros_do_not_matter(style):
    written = explain(RELEASED, style)
    for spaced in (re.sub(r"([\[\],:])", r" \1 ", written), written.replace(" ", " \t  "), f"\n {written} \n"):
        assert check(spaced, RELEASED, style).valid, spaced
    joined = re.sub(r" ?([\[\],:]) ?", r"\1", written)
    assert joined != written and check(joined, RELEASED, style).valid
    padded = re.sub(r"(\d+)", r"00\1", written)
    assert padded != written and check(padded, RELEASED, style).valid


@pytest.mark.parametrize("style", STYLES)
def test_lines_are_parts_of_the_text(style):
    rng = random.Random(6)
    for _ in range(100):
        tree = random_tree(rng)
        written = explain(tree, style)
        spaced = written.replace(" ", rng.choice([" ", "  ", " \t"])).replace(",", rng.choice([",", " ,"]))
        for separator in SEPARATORS:
            text = spaced.replace("\n", separator)
            cut = lines(f" {text} ")
            assert [" ".join(line.split()).replace(" ,", ",") for line in cut] == written.split("\n")
            assert all(line in spaced for line in cut)
            one_by_one = [step for line in cut[:-1] for step in read(line, style).steps]
            assert one_by_one == steps(tree, style)


@pytest.mark.parametrize("text", ["", " \n ", ";", ";;a;", "a ; ;b", "Min, 4 Min,4 Final answer:4", "x\n\n y ;\n z"])
def test_lines_count_steps_and_answer(text):
    cut = lines(text)
    assert len(cut) == len(read(text, "short").steps) + (final_answer(text) is not None)
    assert "".join("".join(cut).split()) == re.sub(r"[\s;]", "", text)
    assert all(line == line.strip() for line in cut)


@pytest.mark.parametrize("separator", ["\n", " ", ";"])
@pytest.mark.parametrize("style", STEP_STYLES)
def test_incorrect_number_affects_one_step(style, separator):
    rng = random.Random(4)
    for _ in range(60):
        tree = random_tree(rng)
        *lines, final = explain(tree, style).split("\n")
        answer = evaluate(tree)
        for k, line in enumerate(lines):
            for number in re.finditer(r"\d+", line):
                for wrong in (int(number[0]) + 1, int(number[0]) + 10, number[0] + "0" * 40):
                    changed = f"{line[: number.start()]}{wrong}{line[number.end() :]}"
                    text = separator.join([*lines[:k], changed, *lines[k + 1 :], final])
                    assert check(text, tree, style) == Check(answer, True, len(lines), len(lines) - 1, k)
        text = separator.join([*lines, f"Final answer: {answer + 1}"])
        assert check(text, tree, style) == Check(answer + 1, False, len(lines), len(lines), None)


@pytest.mark.parametrize("separator", ["\n", " ", ";"])
@pytest.mark.parametrize("style", STEP_STYLES)
def test_missing_surplus_and_swapped_steps(style, separator):
    tree = parse("[MED [SUM 7 5 ] [MAX 9 4 ] [MIN 5 6 ] ]")
    *lines, final = explain(tree, style).split("\n")

    def first_wrong(*parts):
        answer, correct, total, _, wrong = check(separator.join(parts), tree, style)
        assert (answer, correct, total) == (5, True, 4)
        return wrong

    assert first_wrong(*lines, final) is None
    assert first_wrong(*lines[:3], final) == 3
    assert first_wrong(*lines[:1], *lines[2:], final) == 1
    assert first_wrong(final) == 0
    assert first_wrong(*lines, lines[3], final) == 4
    assert first_wrong(lines[0], lines[0], *lines[1:], final) == 1
    assert first_wrong(lines[0], lines[2], lines[1], lines[3], final) == 1
    assert first_wrong(*lines, final, final) == 4
    counted = check(separator.join([lines[0], lines[2], lines[1], lines[3], final]), tree, style)
    assert counted.steps_correct == 2 and not counted.valid


@pytest.mark.parametrize("style", STEP_STYLES)
def test_invalid_steps_are_none(style):
    *lines, final = explain(RELEASED, style).split("\n")
    damages = [
        lambda line: line + ".",
        lambda line: "x" + line,
        lambda line: line.replace(",", "", 1) if "," in line else line + ",",
        lambda line: line.swapcase(),
        lambda line: re.sub(r"(\d+)$", r"-\1", line),
        lambda line: re.sub(r"(\d+)$", "", line),
        lambda line: line.replace("MAX", "Max") if style == "long" and "MAX" in line else line.replace("Max", "MAX"),
        lambda line: re.sub(r"(\d+)$", r"\1 \1", line),
    ]
    for k, line in enumerate(lines):
        for damage in damages:
            if damage(line) == line:
                continue
            parts = [*lines[:k], damage(line), *lines[k + 1 :], final]
            expected = [*steps(RELEASED, style)]
            expected[k] = None
            assert read("\n".join(parts), style) == Explanation(tuple(expected), 2), parts
            assert check(";".join(parts), RELEASED, style).first_wrong_step == k


def test_step_of_another_style_is_none():
    for written in STEP_STYLES:
        for style in STEP_STYLES:
            if written != style:
                assert read(explain(RELEASED, written), style) == Explanation((None, None, None), 2)
                assert check(explain(RELEASED, written), RELEASED, style) == Check(2, True, 3, 0, 0)


def test_truncated_text():
    text = explain(RELEASED, "medium")
    assert read(text[:50], "medium") == Explanation((steps(RELEASED, "medium")[0], None), None)
    assert check(text[:-2], RELEASED, "medium") == Check(None, False, 3, 3, None)
    assert read("", "medium") == Explanation((), None)
    assert check("", RELEASED, "medium") == Check(None, False, 3, 0, 0)
    assert check("2", RELEASED, "medium") == Check(2, True, 3, 0, 0)


def test_style_none_has_no_steps():
    assert check("2", RELEASED, "none") == Check(2, True, 0, 0, None)
    assert check("3", RELEASED, "none") == Check(3, False, 0, 0, None)
    assert check("two", RELEASED, "none") == Check(None, False, 0, 0, None)


def test_bare_number_has_no_steps():
    assert explain(12, "none") == "12"
    for style in STEP_STYLES:
        assert explain(12, style) == "Final answer: 12"
        assert check("Final answer: 12", 12, style) == Check(12, True, 0, 0, None)
        assert check("Max, 12\nFinal answer: 12", 12, style) == Check(12, True, 0, 0, 0)


@pytest.mark.parametrize(
    "text, answer",
    [
        ("Final answer: 2", 2),
        ("  Final  answer :\t29 \n", 29),
        ("Final answer:2", 2),
        ("SUM, 3\nFinal answer: 3", 3),
        ("SUM, 3 Final answer: 3", 3),
        ("SUM, 3;Final answer: 3", 3),
        ("Final answer: 2\nFinal answer: 3", 3),
        ("7", 7),
        (" 17\n", 17),
        ("9" * 30, 10**30 - 1),
        ("9" * 31, None),
        ("Final answer: " + "9" * 5000, None),
        ("", None),
        ("Final answer:", None),
        ("Final answer: 2 3", None),
        ("Final answer: 2.", 2),
        ("SUM, 3 Final answer: 3.\n", 3),
        ("Final answer: 2..", None),
        ("2.", None),
        ("Final answer: 2.", 2),
        ("SUM, 3 Final answer: 3.\n", 3),
        ("Final answer: 2..", None),
        ("2.", None),
        ("Final answer: 2\nSUM, 3", None),
        ("Final answer: 2 SUM, 3", None),
        ("Final answer: -2", None),
        ("Final answer: 2.5", None),
        ("Final answer: ٣", None),
        ("Final answer: [2]", None),
        ("Final answers: 2", None),
        ("final answer: 2", None),
        ("xFinal answer: 2", None),
        ("7 8", None),
        ("7\n8", None),
        ("SUM, 3\n7", None),
        ("answer is 2", None),
        ("-7", None),
    ],
)
def test_final_answer(text, answer):
    assert final_answer(text) == answer
    assert read(text, "medium").final_answer == answer


def test_unknown_style():
    for call in (lambda: explain(5, "medum"), lambda: read("", "medum"), lambda: check("", 5, "medum")):
        with pytest.raises(ListOpsError, match="unknown style 'medum'; did you mean 'medium'?"):
            call()
    with pytest.raises(ListOpsError, match="unknown style 'x'; known: long, medium, none, short"):
        steps(5, "x")


@pytest.mark.parametrize("style", STYLES)
def test_deep_nesting(style):
    tree = 1
    for _ in range(10_000):
        tree = Node("SUM", (tree, 2))
    text = explain(tree, style)
    total = 0 if style == "none" else 10_000
    assert check(text, tree, style) == Check(1, True, total, total, None)


@pytest.mark.parametrize(
    "garbage",
    ["x", " ", "\n", ";", "; ", "\n;", "1", "1 ", "1, ", "[", "[ ", "SUM, ", "Max, 9 ", "SUM, add [",
     "MED, sorted list, [1, ", "Final answer", "Final answer: 1 "],
)  # fmt: skip
@pytest.mark.parametrize("style", STEP_STYLES)
def test_garbage_reads_in_linear_time(style, garbage):
    head = explain(RELEASED, style).split("\n")[0]
    text = head + garbage * (1_000_000 // len(garbage))
    started = time.process_time()
    read(text, style)
    # Under a second where each character is read once; a quadratic reader needs minutes.
    assert time.process_time() - started < 10
