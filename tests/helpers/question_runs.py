"""Run directories of imported questions: made-up questions, and outputs with every kind of verdict."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from explainft.data.questions import forms
from explainft.evaluation import metrics
from explainft.evaluation.targets import postprocess_question
from tests.helpers.run_directories import training_row, write_lines

HOSTILE = "</script><img src=x onerror=alert(1)>"
Output = tuple[str, bool]  # a text, and whether it was cut


def question(name: str, text: str, choices: Sequence[str], answer: str, explanation: str, **fields: Any) -> dict:
    """A row as an imported dataset has it."""
    own = {"id": name, "question": text, "choices": list(choices), "answer": answer, "explanation": explanation}
    return {**own, "fields": json.dumps(fields)}


OWL = question(
    "h-1", "Where does an owl sleep?\nIt is noon.", ["a lake", "a tree", "a road"], "a tree",
    "Owls sleep by day.\nThey sit on branches then.", topic="birds", sources=["field guide"],
)  # fmt: skip
FOX = question("h-2", "Where does a fox live?", ["a den", "a nest"], "a den", "Foxes dig.\nA hole they dig is a den.")
HOMES = [OWL, FOX]
# With the kind of verdict in the form explain_answer.
HOMES_OUTPUTS: list[tuple[str, dict, Output]] = [
    ("correct", OWL, ("Owls sleep by day.\nThey sit on branches then.\nThe answer is a tree", False)),
    ("correct", OWL, ("Owls sleep by day.\nThe answer is (b)", False)),
    ("answer", OWL, ("Owls swim by day.\nThey sit on branches then.\nThe answer is a lake", False)),
    ("unanswered", FOX, (f"{HOSTILE} digs.", False)),
    ("cut", FOX, ("Foxes dig.\nA hole they", True)),
]

BUS = question(
    "bus", "A bus has 12 seats; 5 are taken.\nThen 2 more are. How many are free?", [], "5",
    "So 12 - 5 = 7 are free.\nThen 7 - 2 = 5 are free.", subject="Counting & more", level="1",
)  # fmt: skip
PEN = question(
    "pen",
    "A pen costs 3 crowns 😀. What do 4 cost?",
    [],
    "12",
    "They cost 3 * 4 = 12 crowns.",
    subject="Prices",
    level="2",
)
SUMS = [BUS, PEN]
SUMS_OUTPUTS: list[tuple[str, dict, Output]] = [
    ("correct", BUS, ("So 12 - 5 = 7 are free.\nThen 7 - 2 = 5 are free.\nThe answer is 5", False)),
    ("step", BUS, ("So 12 - 5 = 7 are free.\nThen 7 - 2 = 4 are free.\nThe answer is 5", False)),
    ("step", PEN, ("😀 They cost 3 * 4 = 13 crowns.\nThe answer is 13", False)),
    ("step", BUS, ("So 12 - 5 = 8 are free.\nThen", True)),
    ("answer", PEN, ("They cost 3 * 4 = 12 crowns.\nThe answer is 21", False)),
    ("cut", PEN, ("They cost 3 * 4 = 1", True)),
    ("unanswered", PEN, ("They cost much.", False)),
]


class Dataset(NamedTuple):
    """A made-up dataset and its outputs."""

    name: str
    problem: str
    outputs: list[tuple[str, dict, Output]]


DATASETS = {"homes": Dataset("homes", "choice", HOMES_OUTPUTS), "sums": Dataset("sums", "math", SUMS_OUTPUTS)}


def target(row: dict, problem: str, form: str = "explain_answer") -> dict:
    """What the postprocessor of a task makes of a row, as a prediction file has it."""
    return json.loads(json.dumps(postprocess_question("", example=row, is_target=True, problem=problem, form=form)))


def question_prediction(row: dict, problem: str, output: Output, form: str = "explain_answer") -> dict:
    """A line of a predictions file."""
    text, cut = output
    inputs = {"inputs_pretokenized": forms.input_text(row["question"], row["choices"])}
    inputs["targets_pretokenized"] = forms.target_text(form, row["answer"], row["explanation"])
    line = {"input": inputs, "target": target(row, problem, form), "prediction": text}
    return {**line, "cut": True} if cut else line


def write_questions(folder: Path, dataset: str, form: str = "explain_answer") -> Path:
    """A run of a dataset of DATASETS, scored on validation at three steps and on test at the last."""
    name, problem, outputs = DATASETS[dataset]
    run = folder / name
    write_lines(run / "metrics.jsonl", [training_row(step, 10 * step, step / 2) for step in (10, 20, 30)])
    lines = [question_prediction(row, problem, output, form) for _, row, output in outputs]
    for split, steps in {"validation": (10, 20, 30), "test": (30,)}.items():
        task = run / f"inference_eval/explained_{name}_{form}_eval_{split}"
        rows = []
        for step in steps:
            shown = lines[: len(lines) - 1 + step // 30]
            scores = metrics.score([line["target"] for line in shown], [line["prediction"] for line in shown])
            rows.append({"step": step, **scores, "cut": sum("cut" in line for line in shown) / len(shown)})
        write_lines(Path(f"{task}-metrics.jsonl"), rows)
        write_lines(Path(f"{task}-{steps[-1]:06d}.jsonl"), lines)
    return run
