"""One line per round: the rounds of an expression, and the next input."""

import random
import re

import pytest

from experiments import steps
from explainft import listops
from explainft.data import token_cache
from explainft.data.task_registry import register_iterative
from explainft.evaluation import infer
from explainft.evaluation.evaluator import Evaluator
from explainft.generation.generator import Output
from explainft.listops.configs import CONFIGS
from tests.helpers.run_directories import shipped

OUTER, INNER = "[MAX 2 [MIN 4 [SUM 7 5 ] 3 8 ] 1 ]", "[MIN 4 [SUM 7 5 ] 3 8 ]"
OTHER = "[SUM 7 5 [MED 1 2 9 ] 3 ]"


def inner_list(inputs: str, text: str) -> str | None:
    """Returns MAX's nested list, whatever the output."""
    assert text
    found = re.match(r"\[MAX 2 (\[.*\]) ", inputs)
    return found[1] if found else None


def test_the_example_of_the_description():
    tree = listops.parse("[MED 6 [SUM 7 5 ] [MAX 9 6 ] ]")
    assert [steps.step(tree, number) for number in range(steps.num_steps(tree))] == [
        ("[MED 6 [SUM 7 5 ] [MAX 9 6 ] ]", "SUM, add [7, 5], sum is 12, answer is 2"),
        ("[MED 6 2 [MAX 9 6 ] ]", "Max, largest number of [9, 6] is 9"),
        ("[MED 6 2 9 ]", "MED, sorted list, [2, 6, 9], MEDIAN is 6"),
        ("6", "Final answer: 6"),
    ]


def test_the_lines_of_all_steps_are_the_explanation():
    rng = random.Random(0)
    for _ in range(200):
        tree = CONFIGS["tiny_25_96"].train.tree(rng)
        inputs, written = steps.step(tree)
        lines = [written]
        while (inputs := steps.next_input(inputs, lines[-1])) is not None:
            assert inputs == steps.step(tree, len(lines))[0]
            lines.append(steps.step(tree, len(lines))[1])
        assert "\n".join(lines) == steps.explanation(tree)[1] == listops.explain(tree, "medium")


def test_lists_far_from_the_last_closed_bracket_are_oversampled():
    tree = listops.parse("[MAX [MIN 1 2 ] 3 [SUM 4 [SUM 5 6 ] ] ]")
    oversampled = [steps.oversampled_step(tree, i) for i in range(steps.num_oversampled_steps(tree))]
    first, *others = [steps.step(tree, number) for number in range(steps.num_steps(tree))]
    assert oversampled == [first] * 8 + others  # six tokens, 3 [SUM 4 [SUM 5 6, in which nothing closes


@pytest.mark.parametrize(
    ("inputs", "line", "following"),
    [
        ("[MIN 3 [MED 2 1 ] [MED 1 2 ] ]", "MED, sorted list, [1, 2], MEDIAN is 1", "[MIN 3 1 [MED 1 2 ] ]"),
        ("[MIN 3 [MAX 1 2 ] ]", "Max, largest number of [1, 2] is 7", "[MIN 3 7 ]"),  # a wrong answer is taken
        ("[MIN 3 [MAX 1 2 ] ]", "Max, largest number of [1, 3] is 3", None),
        ("[MIN 3 [MAX 1 2 ] ]", "Min, smallest number of [1, 2] is 1", None),
        ("[MIN 3 [MAX 1 2 ] ]", "Min, smallest number of [3, 2] is 2", None),  # not yet
        ("[MAX 1 2 ]", "Final answer: 2", None),
        ("[MAX 1 2 ]", "Max, largest", None),
        ("[MAX 1 2 ]", "", None),
        ("2", "Final answer: 2", None),
    ],
)
def test_next_input_replaces_the_list_of_a_line(inputs, line, following):
    assert steps.next_input(inputs, line) == following


@pytest.mark.parametrize(
    ("inputs", "line", "following"),
    [
        ("[MIN 3 [MAX 1 2 ] ]", "Max, largest number of [1, 2] is 7", "[MIN 3 7 ]"),
        ("[MIN 3 [MAX 1 2 ] ]", "Max, largest number of [1, 3] is 3", "[MIN 3 [MAX 1 2 ] ]"),
        ("[MAX 1 2 ]", "Final answer: 2", "[MAX 1 2 ]"),
        ("2", "Final answer: 2", None),
        ("2", "Final answer: 7", None),
        ("2", "", None),
    ],
)
def test_a_line_that_names_no_list_is_rejected(inputs, line, following):
    assert steps.next_input_or_reject(inputs, line) == following


def test_infer_decodes_iteratively_as_the_run_s_task_does(tmp_path):
    register_iterative("inner_lists", inner_list, max_rounds=9)
    next_input = {"task": "inner_lists", "module": __name__}
    [found] = infer.infer(shipped(tmp_path / "run", next_input=next_input), [OUTER])
    assert found.explanation == "\n".join(listops.explain(listops.parse(text), "medium") for text in (OUTER, INNER))


def test_tasks_and_their_caches(registries, tiny_data_dir):
    training, scored = (
        token_cache.load(f"explained_tiny_steps{name}_compact", "validation", "experiments.tasks", tiny_data_dir)
        for name in ("", "_eval_test")
    )
    trees = [listops.parse(record["expression"]) for record in scored.records]
    texts = [listops.explain(tree, "medium") for tree in trees]
    assert [record["targets_pretokenized"] for record in scored.records] == texts
    metrics = Evaluator(scored).score([Output(text) for text in texts]).metrics
    assert metrics["valid"] == metrics["exact_match"] == 1.0
    iterative = scored.iterative()
    assert (
        iterative is not None and iterative.next_input("[SUM 7 5 ]", "SUM, add [7, 5], sum is 12, answer is 2") == "2"
    )
    lines = [(record["inputs_pretokenized"], record["targets_pretokenized"]) for record in training.records]
    first = listops.parse(training.records[0]["expression"])
    assert lines[: steps.num_steps(first)] == [steps.step(first, number) for number in range(steps.num_steps(first))]
    assert len(lines) == sum(steps.num_steps(listops.parse(e)) for e in {r["expression"] for r in training.records})
