"""Which samples become examples, and what their texts are."""

import json
from collections import Counter

import pytest

from explainft.core.errors import UserError
from explainft.evaluation.metrics import label_balance, score
from explainft.evaluation.targets import postprocess_sample
from explainft.samples.examples import Selection, drop_surplus, make_examples
from explainft.samples.files import read_problem
from explainft.samples.prompts import fill_prompt, read_prompt
from tests.helpers.sample_files import sampled_row

PAPER = read_prompt("paper")


def examples(kind, row, per_problem=10, seed=0, prompt=PAPER):
    counts = Counter()
    problem = read_problem(row, "line 1")
    return list(make_examples(kind, problem, Selection(prompt, per_problem, seed), counts)), counts


def test_the_prompt_of_the_paper():
    row = sampled_row(3, correct=1, incorrect=0)
    text, prefix = fill_prompt(PAPER, row["question"], "It is {solution} {question}.")
    assert prefix == ""
    assert text == (
        f"Here is a math problem: {row['question']}. Here is a candidate solution: It is {{solution}} {{question}}.. "
        "The above candidate solution is"
    )
    assert read_prompt("short") == "{question}\n{solution}"


def test_a_prompt_may_give_the_solution_to_the_decoder():
    assert fill_prompt(read_prompt("decoder"), "Q {solution}", "S\n{decoder}\n{question}") == (
        "Q {solution}",
        "S\n{decoder}\n{question}",
    )
    assert fill_prompt("Is {question}\n{decoder}\nsolved by {solution}?", "1", "2") == ("Is 1", "solved by 2?")


@pytest.mark.parametrize(
    "text", ["{question}\n{decoder}\n{solution}\n{decoder}\n", "a\n{decoder}\n{question} {solution}"]
)
def test_a_prompt_with_a_misplaced_decoder_line_is_refused(tmp_path, text):
    (tmp_path / "own.txt").write_text(text + "\nend")
    with pytest.raises(UserError, match="must have the line {decoder} once, after {question}"):
        read_prompt(str(tmp_path / "own.txt"))


def test_labels_by_steps():
    row = sampled_row(3, correct=1, incorrect=1)
    lucky = row["samples"][0] | {"text": "lucky", "check": {**row["samples"][0]["check"], "steps_correct": 0}}
    row["samples"].append(lucky)
    by_answer, _ = examples("verifier", row)
    assert {e.targets for e in by_answer if "lucky" in e.inputs} == {"correct"}
    counts = Counter()
    selection = Selection(PAPER, 10, 0, "steps")
    by_steps = list(make_examples("verifier", read_problem(row, "line 1"), selection, counts))
    assert {e.targets for e in by_steps if "lucky" in e.inputs} == {"incorrect"}
    unchecked = {**row, "samples": [{k: v for k, v in s.items() if k != "check"} for s in row["samples"]]}
    assert not list(make_examples("verifier", read_problem(unchecked, "line 1"), selection, counts))
    assert counts["no steps that can be checked"] == 1


@pytest.mark.parametrize("text", ["{question}", "{solution} {question}", "{question} {question} {solution}"])
def test_a_prompt_that_lacks_its_places_is_refused(tmp_path, text):
    (tmp_path / "own.txt").write_text(text)
    with pytest.raises(UserError, match=r"must contain \{question\} and then \{solution\}, each once"):
        read_prompt(str(tmp_path / "own.txt"))
    with pytest.raises(
        UserError, match="cannot read --prompt=none.txt .*; give decoder, paper, short or a UTF-8 text file"
    ):
        read_prompt("none.txt")


def test_a_verifiers_examples_are_pairs_of_distinct_texts_first():
    row = sampled_row(3, correct=3, incorrect=4)
    found, counts = examples("verifier", row, per_problem=6)
    assert [example.targets for example in found] == ["correct", "incorrect"] * 3
    texts = {sample["text"]: sample["correct"] for sample in row["samples"]}
    solutions = [
        e.inputs.partition("candidate solution: ")[2].removesuffix(". The above candidate solution is") for e in found
    ]
    assert [texts[solution] for solution in solutions] == [True, False] * 3
    assert len(set(solutions[1::2])) == 3  # of four that differ
    assert len(set(solutions[::2])) == 1  # the same correct text, repeated
    assert counts == {"verifier": 6}
    assert len(examples("verifier", row)[0]) == 8  # no more than the class with more distinct texts has


def test_the_choice_depends_on_seed_and_problem_alone():
    row = sampled_row(3, incorrect=8)
    assert examples("verifier", row, 4) == examples("verifier", row, 4)
    chosen = {tuple(example.inputs for example in examples("verifier", row, 4, seed)[0]) for seed in range(6)}
    assert len(chosen) > 1


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (sampled_row(3, correct=2, incorrect=0), "correct samples only"),
        (sampled_row(3, correct=0, incorrect=2), "incorrect samples only"),
        (sampled_row(3, samples=[{"text": "x", "answer": None}]), "no known answer"),
    ],
)
def test_a_problem_of_one_class_gives_no_pair_and_is_counted(row, reason):
    assert examples("verifier", row) == ([], {reason: 1})


def test_correct_samples_are_distinct_and_valid_in_every_step():
    row = sampled_row(12, correct=3, incorrect=2)
    [example], _ = examples("correct", row)
    assert (example.inputs, example.targets) == (row["question"], row["gold"])
    lucky = json.loads(json.dumps(row))
    for sample in lucky["samples"]:
        sample["check"]["steps_correct"] = 0  # the answer is correct, the steps are not
    assert examples("correct", lucky) == ([], {"no correct sample": 1})


def test_gold_outputs_are_the_generators_own_task():
    row = sampled_row(12)
    [example], _ = examples("gold", row)
    assert (example.inputs, example.targets) == (row["question"], row["gold"])
    del row["gold"]
    assert examples("gold", row) == ([], {"no gold output": 1})


def test_expressions_without_style_and_modulus_have_the_defaults():
    row = sampled_row(12)
    bare = {name: value for name, value in row.items() if name not in ("style", "modulus")}
    assert examples("gold", bare) == examples("gold", row)
    assert examples("correct", bare) == examples("correct", row)


def test_metrics_read_the_targets():
    verdicts, _ = examples("verifier", sampled_row(3))
    [gold], _ = examples("gold", sampled_row(3))
    joint = [*verdicts, gold]
    targets = [postprocess_sample(e.targets, {"target": e.target}, is_target=True) for e in joint]
    perfect = [e.targets for e in joint]
    assert score(targets, perfect)["exact_match"] == 1.0
    assert label_balance(targets, perfect) == {
        "label_correct": 0.5, "predicted_correct": 0.5, "balanced_accuracy": 1.0
    }  # fmt: skip
    constant = ["correct"] * len(verdicts)
    assert score(targets[:-1], constant)["exact_match"] == 0.5 == score(targets[:-1], constant)["chance"]
    assert label_balance(targets[:-1], constant)["predicted_correct"] == 1.0
    swapped = [{"correct": "incorrect", "incorrect": "correct"}[e.targets] for e in verdicts]
    assert score(targets[:-1], swapped)["exact_match"] == 0.0


def test_each_line_has_a_label_up_to_the_first_incorrect_step():
    row = sampled_row(3, correct=1, incorrect=0) | {"question": "[MAX 4 3 [MED 2 2 9 ] ]", "answer": "4"}
    first, second, last = (
        "MED, sorted list, [2, 2, 9], MEDIAN is 2",
        "Max, largest number of [4, 3, 2] is 4",
        "Final answer: 4",
    )
    wrong = second.replace("is 4", "is 9")
    check = {"steps_total": 2, "steps_correct": 2, "steps_unreadable": 0, "first_wrong_step_number": None}
    incorrect = {**check, "steps_correct": 1, "first_wrong_step_number": 2}
    lines = {(first, second, last): check, (first, wrong, last): incorrect, (first, second, "Final answer: 5"): check}
    row["samples"] = [
        row["samples"][0] | {"text": "\n".join(of), "check": found, "correct": of[-1] == last}
        for of, found in lines.items()
    ]
    selection = Selection(read_prompt("decoder"), 10, 0, "each_step", "dataset")
    found = make_examples("verifier", read_problem(row, "line 1"), selection, Counter())
    assert {example.prefix: example.targets for example in found} == {
        f"{first}\ncorrect\n{second}\ncorrect\n{last}": "correct",
        f"{first}\ncorrect\n{wrong}": "incorrect",
        f"{first}\ncorrect\n{second}\ncorrect\nFinal answer: 5": "incorrect",
    }


def test_balance_over_the_dataset_keeps_problems_of_one_class():
    rows = [sampled_row(3, correct=1, incorrect=6), sampled_row(4, correct=1, incorrect=0)]
    selection, counts, found = Selection(PAPER, 4, 0, balance="dataset"), Counter(), []
    for row in rows:
        found += make_examples("verifier", read_problem(row, "line 1"), selection, counts)
    assert [example.id for example in found] == ["p3/0", "p3/1", "p3/2", "p3/3", "p4/0"]
    kept = drop_surplus(found, 0)
    assert sorted(example.targets for example in kept) == ["correct"] * (len(kept) // 2) + ["incorrect"] * (
        len(kept) // 2
    )
    assert 2 <= len(kept) <= 4 and kept == [example for example in found if example in kept]
    assert found[-1] in kept and drop_surplus(found, 0) == kept
    unbalanced = Selection(PAPER, 4, 0, balance="none")
    assert [
        e for row in rows for e in make_examples("verifier", read_problem(row, "line 1"), unbalanced, counts)
    ] == found
