"""Synthetic problems: their answers against a second computation, their errors, and their splits."""

import collections
import itertools
import json
import random
import re

import pytest

from explainft import listops
from explainft.data.compact_vocabulary import COMPACT
from explainft.data.synthetic import arithmetic, catalog, listops_forms, rows, sequences, spans
from explainft.data.vocabulary import Vocabulary
from explainft.evaluation import metrics
from explainft.problems.listops import ListOpsStep

FEW = 60
FORMS = [
    (name, form) for name in ("tiny", "modsum_tiny", "modular", "sort", "copy") for form in catalog.PROBLEMS[name].forms
]


@pytest.fixture(autouse=True)
def few_rows(monkeypatch):
    monkeypatch.setattr(rows, "ROWS", {"train": 2 * FEW})
    monkeypatch.setattr(rows, "EVAL_ROWS", FEW)
    listops_forms._expressions.cache_clear()
    yield
    listops_forms._expressions.cache_clear()


def problem_of(name, row):
    """The text that tells one problem from another, whatever its form."""
    text = row.inputs.partition("\n")[0]
    return re.sub(r"^\w+( mod \d+)?: ", "", text) if "[" in text else text.partition(" ")[2]


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_splits_are_disjoint_distinct_and_always_the_same(name, form):
    seen = {}
    for split in catalog.PROBLEMS[name].splits:
        found = list(catalog.rows(name, form, split))
        assert len(found) == (2 * FEW if split == "train" else FEW)
        assert found == list(catalog.rows(name, form, split))
        seen[split] = {" ".join(problem_of(name, row).split()) for row in found}
        assert len(seen[split]) == len(found)
    if name != "modular":
        seen.pop("other_modulus", None)  # of ListOps: expressions of test, by another rule
    for one, other in itertools.combinations(seen.values(), 2):
        assert not one & other


def test_forms_have_the_same_held_out_expressions():
    test = {
        form: {problem_of("tiny", row) for row in catalog.rows("tiny", form, "test")} for form in listops_forms.FORMS
    }
    assert len({frozenset(problems) for problems in test.values()}) == 1
    train = {problem_of("tiny", row) for row in catalog.rows("tiny", "check", "train")}
    assert not train & test["answer"]


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_perfect_and_wrong_predictors_on_every_split(name, form):
    for split in catalog.PROBLEMS[name].splits:
        found = list(catalog.rows(name, form, split))
        targets = [json.loads(row.target) for row in found]
        perfect = metrics.score(targets, [row.targets for row in found])
        assert perfect["exact_match"] == perfect["parseable"] == 1.0
        if form == "explain":
            assert perfect["valid"] == 1.0
        assert metrics.score(targets, ["nothing of it"] * len(found))["exact_match"] == 0.0


def test_every_text_is_written_by_the_compact_vocabulary():
    vocabulary = Vocabulary(COMPACT)
    for name, form in FORMS:
        for split in catalog.PROBLEMS[name].splits:
            for row in itertools.islice(catalog.rows(name, form, split), 20):
                for text in (row.inputs, row.targets):
                    assert vocabulary.decode(vocabulary.encode(text)) == text


def test_listops_answers_and_steps():
    for row in catalog.rows("tiny", "answer", "other_modulus"):
        expression = row.inputs.removeprefix("answer mod 7: ")
        assert "[SUM" in expression and int(row.targets) == listops.evaluate(listops.parse(expression), 7)
    for row in catalog.rows("tiny", "step", "test"):
        [step] = listops.read(row.targets, "medium").steps
        assert step == listops.steps(listops.parse(row.inputs.removeprefix("step mod 10: ")), "medium")[0]


@pytest.mark.parametrize("name", ["tiny", "modular"])
def test_half_of_the_given_explanations_have_an_error(name):
    for split in catalog.PROBLEMS[name].splits:
        found = list(catalog.rows(name, "check", split))
        assert [row.targets for row in found[:2]] * (len(found) // 2) == [row.targets for row in found]
        for row in found:
            first, shown = row.inputs.split("\n", 1)
            assert (row.targets == "correct") == is_correct(first, shown), row.inputs


def is_correct(first, shown):
    if "[" in first:
        modulus, expression = re.fullmatch(r"check mod (\d+): (.*)", first).groups()
        return listops.check(shown, listops.parse(expression), "medium", int(modulus)).valid
    modulus, chain = re.fullmatch(r"check mod (\d+): (.*)", first).groups()
    words = chain.split()
    value = words[0]
    for line, operator, number in zip(shown.split("\n"), words[1::2], words[2::2], strict=True):
        left, result, rest = re.fullmatch(r"(.*) = (-?\d+), mod (.*)", line).groups()
        if left != f"{value} {operator} {number}" or eval(left) != int(result):
            return False
        value = str(int(result) % int(modulus))
        if rest != f"{modulus} is {value}":
            return False
    return True


def test_both_kinds_of_error_are_planted():
    kinds = collections.Counter()
    for row in catalog.rows("tiny", "check", "train"):
        if row.targets == "incorrect":
            expression, shown = row.inputs.removeprefix("check mod 10: ").split("\n", 1)
            kinds[listops.first_error(shown, listops.parse(expression), "medium").kind] += 1
    assert kinds["arithmetic"] > 10 and kinds["copy"] > 10


def test_modular_arithmetic_against_python():
    for split in arithmetic.SPLITS:
        for row in catalog.rows("modular", "answer", split):
            modulus, chain = re.fullmatch(r"answer mod (\d+): (.*)", row.inputs).groups()
            assert int(row.targets) == eval(chain) % int(modulus)


def test_sequences():
    for row in catalog.rows("sort", "answer", "longer"):
        numbers = [int(word) for word in row.inputs.removeprefix("sort: ").split()]
        assert [int(word) for word in row.targets.split()] == sorted(numbers) and 9 <= len(numbers) <= 16
    for row in catalog.rows("copy", "answer", "larger_numbers"):
        assert row.inputs == f"copy: {row.targets}" and min(map(int, row.targets.split())) >= 30
    assert sequences.SPLITS == ("train", "validation", "test", "longer", "larger_numbers")


def test_a_step_is_one_line_of_the_style():
    problem, example = ListOpsStep(), {"question": "[MAX 2 9 ]", "answer": "Max, largest number of [2, 9] is 9"}
    assert problem.read_answer(" Max,  largest number of [2,9] is 9\n", example) is not None
    assert problem.equal("Max, largest number of [2,9] is 09", example["answer"], example)
    assert not problem.equal("Max, largest number of [2, 9] is 8", example["answer"], example)
    gold = listops.explain(listops.parse("[MAX 2 9 ]"), "medium")
    for other in (gold, "9", "", "Max, largest", "Max, 9"):
        assert problem.read_answer(other, example) is None
    assert problem.groups(example) == {"operator": "MAX"}


def test_span_corruption_can_be_undone():
    rng, fractions = random.Random(0), []
    for _ in range(200):
        words = [f"w{i}" for i in range(rng.randint(2, 60))]
        row = spans.corrupt(" ".join(words))
        filled = dict(re.findall(r"(_\d+)((?: w\d+)*)", row.targets))
        restored = re.sub(
            r"_\d+", lambda match, filled=filled: filled[match[0]].strip(), row.inputs.removeprefix("fill: ")
        )
        assert restored.split() == words
        assert filled[f"_{len(filled) - 1}"] == "" and all(list(filled.values())[:-1])
        fractions.append(sum(len(part.split()) for part in filled.values()) / len(words))
    assert 0.13 < sum(fractions[i] for i in range(200)) / 200 < 0.25  # at least one word of short texts
    assert spans.corrupt("a b c d") == spans.corrupt("a b c d")


def test_lengths_of_spans_are_those_of_t5():
    rng = random.Random(0)
    for _ in range(100):
        kept, noise = spans.span_lengths(100, rng)
        assert len(kept) == len(noise) == 5 and sum(noise) == 15 and sum(kept) == 85 and min(kept + noise) >= 1


def test_the_base_has_a_row_of_each_form_at_a_time():
    found = list(itertools.islice(catalog.base_rows("test", spans=True), 2 * (len(catalog.BASE) + 1)))
    starts = [row.inputs.partition(":")[0].partition(" ")[0] for row in found]
    assert (
        starts[:10]
        == starts[10:]
        == ["answer", "explain", "step", "check", "answer", "explain", "check", "sort", "copy", "fill"]
    )
    assert len(list(catalog.base_rows("test", spans=False))) == FEW * len(catalog.BASE)
