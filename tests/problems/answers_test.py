"""Answers: read from outputs, and compared by value."""

import time

import pytest

from explainft.core.errors import UserError
from explainft.problems import symbolic
from explainft.problems.choice import Choice
from explainft.problems.listops import ListOps
from explainft.problems.math import Math
from explainft.problems.problem import correct
from explainft.problems.registry import PROBLEMS, get_problem
from explainft.problems.text import Text

PLACES = {"choices": ["bank", "aquarium", "pond", "bank account", "New  York"], "answer": "aquarium"}
TWICE = {"choices": ["bridge", "beach", "Bridge "], "answer": "bridge"}
YES = {"answer": "yes"}


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        ("B", "aquarium"),
        ("b", "aquarium"),
        ("(b)", "aquarium"),
        ("[B]", "aquarium"),
        ("b.", "aquarium"),
        ("B)", "aquarium"),
        ("**B**", "aquarium"),
        ("Option B", "aquarium"),
        ("the answer is (b) aquarium", "aquarium"),
        ("So the answer is (b).", "aquarium"),
        ("Goldfish live in water. So the answer is b.", "aquarium"),
        ("Answer: B", "aquarium"),
        ("The correct answer is: (B)", "aquarium"),
        ("Aquarium", "aquarium"),
        ("  AQUARIUM.\n", "aquarium"),
        ("new york", "New  York"),
        ("It must be an aquarium.", "aquarium"),
        ("I would open a bank account.", "bank account"),
        ("A", "bank"),
        ("The answer is A.", "bank"),
        ("The answer is a", "bank"),
        ("The answer is a pond.", "pond"),
        ("(a) or (b). No: the answer is (c).", "pond"),
        ("(a) or (b)", None),
        ("a pond or a bank", None),
        ("The answer is either (a) bank or (c) pond.", None),
        ("The answer is (d) pond.", None),
        ("(z)", None),
        ("", None),
        ("no idea", None),
        ("The answer is not (b)", None),
        ("The answer isn't (b).", None),
        ("not an aquarium", None),
        ("The answer is not (b) but (c).", "pond"),
        ("So the answer is (b). The answer is not pond.", "aquarium"),
        ("Neither (a) nor (b). Take (c)", "pond"),
        ("The answer is (b). (c) is wrong, since ponds are outside.", "aquarium"),
        ("The answer is A because it is safe", "bank"),
        ("The answer is 'B'", "aquarium"),
        (r"\boxed{b}", "aquarium"),
        (r"So it is \boxed{A}.", "bank"),
        ("I take **A** here", "bank"),
        ("İ", None),
        ("(ſ)", None),
        ("Ａ", "bank"),
        ("A fish lives in water. B", "aquarium"),
    ],
)
def test_choice_reads_letters_and_texts(output, answer):
    assert Choice().read_answer(output, PLACES) == answer
    assert correct(Choice(), output, PLACES) is (answer == "aquarium")


@pytest.mark.parametrize("output", ["A", "(c)", "bridge", "BRIDGE", "the answer is (c) bridge"])
def test_choices_of_equal_text_are_one_answer(output):
    assert correct(Choice(), output, TWICE)


@pytest.mark.parametrize(
    ("choices", "output", "answer"),
    [
        (["Straße", "Café"], "It is a straße.", "Straße"),
        (["Straße", "Café"], "STRASSE it is", "Straße"),
        (["not enough", "enough"], "The answer is not enough.", "not enough"),
        (["1", "2", "12"], "It is 12.", "12"),
        (["1", "2", "12"], "It is 2.", "2"),
        (["1", "2"], "It is 2.5", None),
        (["1", "2"], "It is -2", None),
        (["True", "False"], "yes", "True"),
        (["True", "False"], "The answer is not true.", None),
        (["yes", "no"], "The answer is (b)", "no"),
        (["yes", "no"], "B", "no"),
        (["no", "yes"], "(b) yes", "yes"),
        (["no", "yes"], "(b) no", None),
        (["no", "yes", "maybe"], "B", "yes"),
        (["?", "!"], "The answer is !", "!"),
    ],
)
def test_choice_reads_other_choices(choices, output, answer):
    assert Choice().read_answer(output, {"choices": choices}) == answer


def test_yes_and_no_without_choices_have_no_letters():
    assert Choice().read_answer("(b)", YES) is None


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        ("yes", "yes"),
        ("Yes.", "yes"),
        ("True", "yes"),
        ("false", "no"),
        ("So the answer is no.", "no"),
        ("There is no doubt. So the answer is yes.", "yes"),
        ("yes and no", None),
        ("perhaps", None),
    ],
)
def test_choice_reads_yes_and_no(output, answer):
    assert Choice().read_answer(output, YES) == answer


def test_true_equals_yes():
    assert Choice().equal("True", "yes", YES)
    assert not Choice().equal("False", "yes", YES)


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        (r"Therefore, $x = \boxed{46}.$", "46"),
        (r"\boxed{1} and then \boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}"),
        (r"It is \boxed{\{1,2\}}", r"\{1,2\}"),
        (r"so \boxed{7} and \boxed{8", "7"),
        (r"\boxed 5", "5"),
        (r"\fbox{9}", "9"),
        ("2/2=<<2/2=1>>1\n#### 3", "3"),
        ("#### 1,234\n", "1,234"),
        ("The answer is 42.", "42"),
        ("The answer is $-7$ apples.", "-7"),
        ("The answer is east.", "east"),
        ("so 3 + 4 = 7", "7"),
        ("1/2", "1/2"),
        ("A", "A"),
        ("($x$).", "x"),
        ("A or B", None),
        ("nothing here", None),
        ("1²", "1²"),
        ("48 / 2 = 24", "24"),
        ("x + 2 = 5 and so on", "5"),
        ("y = 2x + 3", "y = 2x + 3"),
        ("The answer is (3, 4]", "(3, 4]"),
        ("The answer is \\frac{1}{2}", "\\frac{1}{2}"),
        ("The answer is 18 dollars", "18"),
        ("The answer is not 5.", None),
        ("The answer is not 5 but 6.", "6"),
        ("The answer is 7. So the answer is not 5.", "7"),
        ("The answer is 3 1/2 cups.", "3 1/2"),
        ("So he ate 3 1/2 pies", "3 1/2"),
        ("The answer is ½ cup", "½"),
        ("The answer is 8 - 3 = 5 apples", "5"),
        ("The answer is 7, since 3 + 4 = 7", "7"),
        ("The answer is **5**.", "5"),
        ("**5**", "5"),
        ("it is 5.", "5"),
        ("1/2 of it", "1/2"),
        ("The answer is €25 or so", "€25"),
        ("", None),
    ],
)
def test_math_reads_the_last_answer(output, answer):
    assert Math().read_answer(output, {}) == answer


EQUAL = [
    ("1,000", "1000"),
    ("1{,}000", "1000"),
    (r"900,\!000,\!000", "900000000"),
    ("+5", "5"),
    ("−5", "-5"),
    ("-½", "-0.5"),
    ("٣", "3"),
    ("0.50", "1/2"),
    (".5", "0.5"),
    ("2.0", "2"),
    ("007", "7"),
    ("3 1/2", "3.5"),
    ("7/14", "1/2"),
    ("-7/14", "-0.5"),
    (r"\frac12", "0.5"),
    (r"\frac{1}{2}", "0.5"),
    (r"\dfrac{1}{2}", r"\tfrac12"),
    (r"-\frac{3}{4}", "-0.75"),
    (r"3\frac{1}{2}", "3.5"),
    (r"\frac{10}{4}", "2.5"),
    ("50%", "50"),
    (r"50\%", "50"),
    ("$18", "18"),
    (r"\$18.00", "18"),
    (r"90^\circ", "90"),
    (r"90^{\circ}", "90"),
    ("90°", "90"),
    ("5 cm", "5"),
    (r"5\text{ cm}", "5"),
    (r"12\text{ cm}^2", "12"),
    ("42 dollars", "42"),
    ("42.", "42"),
    ("x=5", "5"),
    ("x = 5", "x=5"),
    (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac{\pi}{2})"),
    ("(1, 2)", "(1.0,2)"),
    (r"(\frac12, 3)", "(0.5,3)"),
    ("[0,1)", "[0, 1)"),
    ("1, 2, 3", "3,2,1"),
    (r"\{1,2\}", r"\{2, 1\}"),
    (r"\sqrt3", r"\sqrt{3}"),
    (r"2\sqrt{3}", r"2 \sqrt 3"),
    (r"\text{Evelyn}", "evelyn"),
    (r"\text{ (C) }", "(C)"),
    ("x^{2}", "x^2"),
    ("52_{8}", "52_8"),
    (r"4:30\text{ p.m.}", "4:30p.m."),
    ("1e", "1E"),
    (r"\pi", r" \pi "),
    (r"5,\!208", "5208"),
    ("1e-05", "0.00001"),
    ("1.5E3", "1500"),
    ("€25", "25"),
    ("1 000", "1000"),
    ("7th", "7"),
    ("12 pounds", "12"),
    ("5 kg", "5"),
    (r"100\text{ square units}", "100"),
]
UNEQUAL = [
    ("1,000", "1"),
    ("1,2", "12"),
    ("5", "-5"),
    ("0.5", "0.05"),
    ("1/2", "2"),
    ("1/3", "0.33"),
    ("50%", "0.5"),
    ("1²", "1"),
    ("1²", "12"),
    ("3 1/2", "31/2"),
    ("1/2004!", "1/2006!"),
    ("12:00", "1:00"),
    (r"1 \pm \sqrt{19}", r"1 - \sqrt{19}"),
    (r"1 \pm \sqrt{19}", r"1 + \sqrt{19}"),
    ("(1,2)", "(2,1)"),
    ("(1,2)", "[1,2]"),
    ("(1,2]", "(1,2)"),
    ("(1,2)", "(1,2,3)"),
    (r"\{1,2\}", "(1,2)"),
    ("1,2", "1,2,3"),
    ("x=5", "x=6"),
    ("x=5", "y=5"),
    ("1 2", "12"),
    ("1e999", "1e998"),
    ("1 2345", "12345"),
    ("52_8", "52_9"),
    ("x^2", "x^3"),
    ("x^2", "2x"),
    (r"\sqrt{2}", r"\sqrt{3}"),
    (r"\frac{1}{2}", r"\frac{2}{1}"),
    ("east", "west"),
    ("2003^{2002^{2001}}", "2004^{2002^{2001}}"),
    ("", "0"),
    ("", ""),
    ("-", "-1"),
    ("1/0", "0"),
    ("1.5.2", "1.5"),
    ("10", "100"),
    ("1 000 1", "1001"),
    ("½", "2"),
    ("--5", "5"),
    ("++5", "5"),
    (".", "0"),
    (",", "0"),
    ("1,00", "100"),
    ("1,0000", "10000"),
    ("٣", "4"),
    (r"\infty", r"-\infty"),
    (r"\pi", "3.14"),
    ("9" * 201, "9" * 202),
    ("[" * 1000, "5"),
    ("\ud800", "5"),
    ("A", "B"),
    ("4:30", "4.30"),
]


@pytest.mark.parametrize(("answer", "other"), EQUAL)
def test_math_equal_by_value(answer, other):
    assert Math().equal(answer, other, {})
    assert Math().equal(other, answer, {})


@pytest.mark.parametrize(("answer", "other"), UNEQUAL)
def test_math_unequal(answer, other):
    assert not Math().equal(answer, other, {})
    assert not Math().equal(other, answer, {})


@pytest.mark.parametrize(
    ("answer", "other"),
    [
        *[("1/2004!", "1/2006!"), ("12:00", "1:00"), (r"1 \pm 2", "3"), ("1²", "1"), ("52_8", "52_9"), ("--5", "5")],
        *[(r"\geq 5", "5"), ("x < 5", "x=5"), ("5^", "5"), ("5 + -3", "5"), ("5'", "5"), ("5∪6", "5")],
    ],
)
def test_what_math_verify_takes_for_equal_is_not_asked(monkeypatch, answer, other):
    monkeypatch.setattr(symbolic, "available", lambda: True)
    monkeypatch.setattr(symbolic, "_ask", lambda question: True)
    for first, second in ((answer, other), (other, answer)):
        assert not symbolic.equal.__wrapped__(first, second)
    assert symbolic.equal.__wrapped__(r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}")


def test_the_tables_hold_a_hundred_pairs():
    assert len(EQUAL) + len(UNEQUAL) >= 100


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        ("Because.\nThe answer is: Blue whale.", "Blue whale."),
        ("first\n\nlast\n", "last"),
        ("", None),
        (" \n", None),
        ("?", "?"),
        ("a\u2028b", "a\u2028b"),
    ],
)
def test_text_reads_the_statement_or_the_last_line(output, answer):
    assert Text().read_answer(output, {}) == answer


def test_text_equal_after_normalization():
    assert Text().equal("  “Blue   Whale.”", "blue whale", {})
    assert not Text().equal("blue whales", "blue whale", {})


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        ("The answer is 4", "4"),  # as imported questions state it
        ("the answer is -4.\n", "-4"),
        ("SUM, add [7, 7], sum is 14, answer is 4", None),  # a step
        ("Max, largest number of [1, 4] is 4\nThe answer is 4", None),  # the form takes the statement alone
        ("The answer is " + "4" * 5000, None),
    ],
)
def test_listops_reads_the_statement_of_a_question(output, answer):
    assert ListOps().read_answer(output, {"question": "[MAX 1 4 ]", "answer": "4"}) == answer


def test_listops_reads_and_checks():
    example = {"question": "[MAX 2 9 [MIN 4 7 ] 0 ]", "answer": 9}
    gold = "Min, smallest number of [4, 7] is 4\nMax, largest number of [2, 9, 4, 0] is 9\nFinal answer: 9"
    assert correct(ListOps(), gold, example)
    assert not correct(ListOps(), gold[:-1] + "8", example)
    assert ListOps().check(gold, example).valid
    wrong = ListOps().check(gold.replace("is 4", "is 7"), example)
    assert (wrong.correct, wrong.incorrect, wrong.first_wrong_step) == (1, 1, 0)
    assert ListOps().groups(example) == {"operator": "MAX", "depth": "2", "length": "5-9"}
    assert ListOps().check(gold, {"question": "[MAX 1", "answer": 1}) is None


HOSTILE = [
    "1²", "-½", "٣", "İ", "(İ)", "−5",
    "\ud800", "\x00", "[" * 100_000, "{" * 100_000, "\\boxed{" * 15_000, "(" * 100_000 + "=",
    "1+" * 50_000, "1=1+" * 25_000, "1 " * 50_000, "answer is " * 10_000, "1," * 50_000, "9" * 100_000 + "/3",
    "<<" * 50_000, "\\frac" * 20_000, "\\text{" * 15_000, " " * 100_000, "\u2028" * 50_000, "a b " * 25_000,
    "bank " * 20_000, "(b) aquarium " * 8_000, "not " * 25_000 + "(b)", "answer is not b " * 6_000,
]  # fmt: skip


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
def test_no_text_raises_or_takes_long(problem):
    example = {"question": "[MAX 1 2 ]", "answer": "2", "choices": PLACES["choices"]}
    for text in HOSTILE:
        start = time.process_time()
        problem.read_answer(text, example)
        problem.equal(text, "5", example)
        problem.equal("5", text, example)
        problem.check(text, example)
        assert time.process_time() - start < 4, text[:20]  # each call takes a second at most


def test_unknown_problem():
    with pytest.raises(UserError, match="unknown problem 'maths'; did you mean 'math'"):
        get_problem("maths")
