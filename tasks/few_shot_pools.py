"""The demonstrations of a dataset, read when a task is: an imported dataset's own, or questions of its split train."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import seqio
import tensorflow_datasets as tfds

from explainft.core.errors import UserError
from explainft.data import few_shot
from explainft.data.few_shot import Demonstration, Pool
from explainft.data.questions import forms, records
from explainft.data.questions.descriptor import DEMONSTRATIONS, Descriptor, demonstrations_file
from explainft.data.questions.examples import Question
from tasks import preprocessors

NONE = Pool((), {})  # of prompts without demonstrations


def listops_pool(source: seqio.DataSource, style: str, shots: int, sampled: bool, origin: str) -> Pool:
    """Returns the first expressions of the split train, none of which is in another split. Raises UserError."""
    if not shots:
        return NONE
    expressions = source.get_dataset("train", shuffle=False).take(few_shot.POOL if sampled else shots)
    examples = tfds.as_numpy(preprocessors.explain(expressions, style))
    found = [Demonstration(example["inputs"].decode(), example["targets"].decode()) for example in examples]
    few_shot.check_count(len(found), shots, sampled, f"the split train of {origin}")
    return Pool(found, {one.input: place for place, one in enumerate(found)})


def question_pool(
    directory: Path, descriptor: Descriptor, training_rows: int, form: str, shots: int, sampled: bool
) -> Pool:
    """Returns the demonstrations of an imported dataset, whose records lie in `directory`. Raises UserError.

    Fixed ones are those of its file, else the first of the split train. `training_rows` of that split are trained on;
    the other ones are held out for validation.
    """
    if not shots:
        return NONE
    splits = {split: _digested(records.read(directory, split)) for split in descriptor.rows}
    rows = splits.pop("train", [])
    training, held_out = rows[:training_rows], rows[training_rows:]
    evaluated = {digest: split for split, found in splits.items() for digest, _ in found}
    if DEMONSTRATIONS in descriptor.digests and not sampled:
        candidates, origin = _digested(read_demonstrations(directory)), str(demonstrations_file(directory))
        _refuse_leaks(candidates, evaluated, origin)
        places = few_shot.choose_fixed([digest for digest, _ in candidates], shots, ())
    else:
        candidates, origin = training, f"the split train of {descriptor.name}"
        avoided = () if sampled else evaluated.keys() | {digest for digest, _ in held_out}
        wanted = few_shot.POOL if sampled else shots
        places = few_shot.choose_fixed([digest for digest, _ in candidates], wanted, avoided)
    few_shot.check_count(len(places), shots, sampled, origin)
    chosen = [candidates[place] for place in places]
    place_of = {digest: place for place, (digest, _) in enumerate(chosen)}
    found = [*rows, *(one for of_split in splits.values() for one in of_split)]
    return Pool(
        [Demonstration(_input(one), forms.target_text(form, one.answer, one.explanation)) for _, one in chosen],
        {_input(one): place_of[digest] for digest, one in found if digest in place_of},
    )


def _digested(questions: Iterable[Question]) -> list[tuple[int, Question]]:
    return [(question.question_digest(), question) for question in questions]


def read_demonstrations(directory: Path) -> list[Question]:
    """Returns the imported demonstrations of a dataset. Raises UserError for a corrupt file."""
    file = demonstrations_file(directory)
    try:
        return [_question(json.loads(line)) for line in file.read_text(encoding="utf-8").split("\n") if line]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is corrupt ({error}); import the dataset again with --overwrite") from error


def _question(row: dict) -> Question:
    choices = tuple(row.get("choices", ()))
    return Question(row["id"], row["question"], choices, row["answer"], row["explanation"], "{}")


def _refuse_leaks(demonstrations: Sequence[tuple[int, Question]], evaluated: Mapping[int, str], origin: str) -> None:
    for line, (digest, _) in enumerate(demonstrations, 1):
        split = evaluated.get(digest)
        if split is not None:
            raise UserError(
                f"{origin} line {line} is a question of the split {split}, whose answer prompts would show; "
                "import the dataset again without it"
            )


def _input(question: Question) -> str:
    return forms.input_text(question.question, question.choices)
