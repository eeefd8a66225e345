"""Training examples of sampled problems: for a verifier, or for the generator itself."""

import dataclasses
import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from explainft.data.questions import forms
from explainft.data.questions.examples import Question
from explainft.data.sample_datasets import LABELS
from explainft.evaluation.targets import Target
from explainft.samples.files import Sample, SampledProblem
from explainft.samples.prompts import fill_prompt

LISTOPS_DEFAULTS = {"style": "medium", "modulus": 10}  # of problems.listops
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
    and what its labels depend on, see sample_datasets.LABELED_BY.
    """

    prompt: str
    per_problem: int
    seed: int
    labeled_by: str = "answer"


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

    A verifier's alternate: examples 2i and 2i + 1 are a correct and an incorrect solution. A problem with solutions of
    one class only gives none.
    """
    makers = {"verifier": _verifier_examples, "correct": _correct_examples, "gold": _gold_examples}
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
        unknown = "no known answer" if selection.labeled_by == "answer" else "no steps that can be checked"
        counts[only if known else unknown] += 1
        return
    pairs = min(selection.per_problem // 2, max(map(len, classes)))
    question = input_text(problem.target)
    for i in range(pairs):
        for label, texts in zip(LABELS, classes, strict=True):
            filled = fill_prompt(selection.prompt, question, texts[i % len(texts)])
            yield SampleExample(f"{problem.id}/{2 * i + LABELS.index(label)}", *filled, label, verdict_target(label))


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
