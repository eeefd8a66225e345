"""What is read fast is what is read slowly."""

import random

from explainft.problems import choice
from explainft.problems.choice import YES_NO, Choice, mentions, values_of
from explainft.problems.text import STATEMENT, last_statement

CHOICES = (["bank", "pond", "bank account", "New  York", "b"], ["A", "b", "A b"], ["x", "X "], list(YES_NO))


def search_statement(output):
    for match in reversed(list(STATEMENT.finditer(output))):
        stated = output[match.end() :].lstrip(" \t\r\n:*").split("\n", 1)[0].strip()
        if stated:
            return stated
    return None


def test_last_statement_equals_a_search():
    rng = random.Random(0)
    words = [
        "answer",
        "Answer",
        "answers",
        "ANSWER is",
        "answer choice is",
        "would be",
        "answer:",
        "is",
        ":",
        "=",
        "\n",
    ]
    words += [" ", " ", "İ", "(b)", "pond.", "*", "ſ", "ß"]
    found = 0
    for _ in range(5000):
        text = "".join(rng.choices(words, k=rng.randrange(1, 12)))
        assert last_statement(text) == search_statement(text), text
        found += last_statement(text) is not None
    assert found > 1000


def test_a_labelled_choice_is_what_is_mentioned():
    rng = random.Random(0)
    named = 0
    for choices in CHOICES:
        values = values_of(choices)
        for _ in range(1500):
            text = f"({rng.choice('abcdeBz')}){rng.choice(['', ' ', '  '])}"
            text += rng.choice([*choices, rng.choice(choices).upper()]) + rng.choice(["", ".", " ", "!", ", or b"])
            labelled = choice._labelled(text, choices)
            if labelled is not None:
                by_letter, by_text = mentions(text, choices)
                assert by_letter | by_text == {labelled}, text
                assert Choice().read_answer(text, {"choices": choices}) == choices[values.index(labelled)]
                named += 1
    assert named > 400
