"""Training examples of sampled problems: for a verifier, or for the generator itself."""

import dataclasses
import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from explainft.data.questions import forms
from explainft.data.questions.examples import Question
from explainft.data.sample_datasets import EACH_STEP, LABELS, label_lines
from explainft.evaluation.targets import Target
from explainft.samples.files import Sample, SampledProblem
from explainft.samples.prompts import fill_prompt

LISTOPS_DEFAULTS = {"style": "medium", "modulus": 10}  # of problems.listops
UNKNOWN_LABEL = {
    "answer": "no known answer",
    "steps": "no steps that can be checked",
    EACH_STEP: "no steps that can be checked",
}
FEATURES = ("id", "inputs", "prefix", "targets", "target")


class SampleExample(NamedTuple):
    """An example as the dataset has it. `target` is JSON: what metrics read predictions by.

    `prefix` is what the decoder reads before `targets`, without loss.
    """

    id: str
    inputs: str
    prefix: str
    targets: str
    target: str


@dataclasses.dataclass(frozen=True)
class Selection:
    """Which samples of a problem become examples.

    At most `per_problem`, chosen by the seed and the problem's id alone, distinct texts first. A verifier's `prompt`,
    what its labels depend on, and where it has as many of each, see sample_datasets.
    """

    prompt: str
    per_problem: int
    seed: int
    labeled_by: str = "answer"
    balance: str = "problem"


def question_digest(target: Target) -> int:
    """Returns a digest of a problem's normalized question and its choices."""
    example = target.example
    choices = tuple(example.get("choices") or ())
    return Question("", str(example["question"]), choices, "", "", "{}").question_digest()


def input_text(target: Target) -> str:
    """Returns the input that the generator read."""
    return forms.input_text(str(target.example["question"]), target.example.get("choices") or ())


def describe_generator(target: Target) -> dict[str, Any]:
    """Returns what a generator's outputs are read by, which is the same for all problems of a dataset."""
    if target.form is None:
        return {"problem": target.problem.name, **_listops_settings(target)}
    return {"problem": target.problem.name, "form": target.form}


def _listops_settings(target: Target) -> dict[str, Any]:
    return {name: target.example.get(name, default) for name, default in LISTOPS_DEFAULTS.items()}


def generator_words(generator: Mapping[str, Any]) -> str:
    """Returns a phrase such as `problem=listops style=medium modulus=10`."""
    return " ".join(f"{name}={value}" for name, value in generator.items())


def make_examples(
    kind: str, problem: SampledProblem, selection: Selection, counts: Counter[str]
) -> Iterator[SampleExample]:
    """Yields the examples of one kind of a problem; counts the examples, and problems that give none with the reason.

    A verifier's, balanced in each problem, alternate: examples 2i and 2i + 1 are a correct and an incorrect solution. A
    problem with solutions of one class only gives none. `balance` makes those balanced in the dataset.
    """
    verifier = _verifier_examples if selection.balance == "problem" else _samples_as_they_are
    makers = {"verifier": verifier, "correct": _correct_examples, "gold": _gold_examples}
    for example in makers[kind](problem, selection, counts):
        counts[kind] += 1
        yield example


def _verifier_examples(problem: SampledProblem, selection: Selection, counts: Counter[str]) -> Iterator[SampleExample]:
    labeled = [(sample, is_correct(sample, selection.labeled_by)) for sample in problem.samples]
    classes = [
        _distinct([sample for sample, label in labeled if label is wanted], problem.id, selection.seed)
        for wanted in (True, False)
    ]
    if not all(classes):
        known = any(label is not None for _, label in labeled)
        only = "correct samples only" if classes[0] else "incorrect samples only"
        counts[only if known else UNKNOWN_LABEL[selection.labeled_by]] += 1
        return
    pairs = min(selection.per_problem // 2, max(map(len, classes)))
    for i in range(pairs):
        for label, texts in zip(LABELS, classes, strict=True):
            yield _verifier_example(problem, 2 * i + LABELS.index(label), texts[i % len(texts)], label, selection)


def _samples_as_they_are(
    problem: SampledProblem, selection: Selection, counts: Counter[str]
) -> Iterator[SampleExample]:
    labels = {
        sample.text: label
        for sample in problem.samples
        if (label := is_correct(sample, selection.labeled_by)) is not None
    }
    if not labels:
        counts[UNKNOWN_LABEL[selection.labeled_by]] += 1
    texts = _distinct([sample for sample in problem.samples if sample.text in labels], problem.id, selection.seed)
    for i, text in enumerate(texts[: selection.per_problem]):
        yield _verifier_example(problem, i, text, LABELS[0] if labels[text] else LABELS[1], selection)


def _verifier_example(
    problem: SampledProblem, number: int, text: str, label: str, selection: Selection
) -> SampleExample:
    if selection.labeled_by == EACH_STEP:
        text = label_lines(_up_to_first_error(problem.target, text))
    filled = fill_prompt(selection.prompt, input_text(problem.target), text)
    return SampleExample(f"{problem.id}/{number}", *filled, label, verdict_target(label))


def _up_to_first_error(target: Target, solution: str) -> str:
    """Returns the lines of a solution up to the first one with an incorrect step, or all."""
    lines = solution.split("\n")
    for number in range(1, len(lines)):
        beginning = "\n".join(lines[:number])
        check = target.problem.check(beginning, target.example)
        if check is not None and not check.valid_so_far:
            return beginning
    return solution


def drop_surplus(examples: Sequence[SampleExample], seed: int) -> list[SampleExample]:
    """Returns as many examples of each label, chosen by the seed, in their order."""
    by_label = [[i for i, example in enumerate(examples) if example.targets == label] for label in LABELS]
    rng = random.Random(seed)
    kept = {i for numbers in by_label for i in rng.sample(numbers, min(map(len, by_label)))}
    return [example for i, example in enumerate(examples) if i in kept]


def _correct_examples(problem: SampledProblem, selection: Selection, counts: Counter[str]) -> Iterator[SampleExample]:
    chosen = [sample for sample in problem.samples if sample.correct and sample.valid is not False and not sample.cut]
    texts = _distinct(chosen, problem.id, selection.seed)[: selection.per_problem]
    if not texts:
        counts["no correct sample"] += 1
    for i, text in enumerate(texts):
        yield SampleExample(f"{problem.id}/{i}", input_text(problem.target), "", text, generator_target(problem.target))


def _gold_examples(problem: SampledProblem, selection: Selection, counts: Counter[str]) -> Iterator[SampleExample]:
    if problem.gold is None:
        counts["no gold output"] += 1
        return
    yield SampleExample(problem.id, input_text(problem.target), "", problem.gold, generator_target(problem.target))


def is_correct(sample: Sample, labeled_by: str) -> bool | None:
    """Returns the label of a sample; None where it is unknown."""
    return sample.correct if labeled_by == "answer" else sample.valid


def _distinct(samples: Sequence[Sample], name: str, seed: int) -> list[str]:
    """Returns the distinct texts in an order that depends on the seed and the problem's id."""
    texts = list(dict.fromkeys(sample.text for sample in samples))
    random.Random(f"{seed} {name}").shuffle(texts)
    return texts


def verdict_target(label: str) -> str:
    """Returns the target of a verifier's example: a choice between two labels."""
    # The question is the input, which is written beside each prediction.
    return _json(
        {"problem": "choice", "form": "answer", "example": {"question": "", "choices": LABELS, "answer": label}}
    )


def generator_target(target: Target) -> str:
    """Returns the target of a generator's example, as the postprocessor of its own task makes it."""
    example = target.example
    if target.form is None:
        settings = _listops_settings(target)
        return _json({"expression": example["question"], "answer": int(example["answer"]), **settings})
    return _json({"problem": target.problem.name, "form": target.form, "example": example})


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)
