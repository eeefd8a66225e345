"""Answers of a trained run: the expression in; explanation, answer and check out."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from explainft import listops
from explainft.checkpoints import convert, run_checkpoint
from explainft.core.errors import UserError, require_name, require_positive
from explainft.data.vocabulary import EOS_ID
from explainft.evaluation import prediction_files
from explainft.evaluation.evaluator import Evaluator
from explainft.evaluation.loading import load_evaluation_tasks, load_model
from explainft.evaluation.prediction_files import write_json_lines
from explainft.evaluation.task_names import listops_config
from explainft.generation.quantization import DecodeConfig
from explainft.listops.configs import Config
from explainft.listops.release import read_release
from explainft.model.t5 import T5
from explainft.parallel import sharding

PRETRAINED = Path(__file__).parents[1] / "pretrained" / "medium_tiny"  # made by `make pretrained`


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A model's explanation of one expression, and its check. What people read counts steps from 1."""

    expression: str
    explanation: str
    check: listops.Check
    modulus: int = 10

    def text(self) -> str:
        answer = "none" if self.check.final_answer is None else self.check.final_answer
        gold = listops.evaluate(listops.parse(self.expression), self.modulus)
        verdict = "correct" if self.check.answer_correct else f"wrong, it is {gold}"
        steps = f"{self.check.steps_correct} of {self.check.steps_total} steps correct"
        if self.first_wrong_step_number is not None:
            steps += f", first wrong step {self.first_wrong_step_number}"
        indented = "\n".join(f"  {line}" for line in self.explanation.split("\n"))
        return f"{self.expression}\n{indented}\nanswer: {answer} ({verdict}; {steps})"

    def json(self) -> dict[str, Any]:
        return {
            "expression": self.expression,
            "answer": self.check.final_answer,
            "explanation": self.explanation,
            "check": {
                "answer_correct": self.check.answer_correct,
                "steps_total": self.check.steps_total,
                "steps_correct": self.check.steps_correct,
                "first_wrong_step_number": self.first_wrong_step_number,
            },
        }

    @property
    def first_wrong_step_number(self) -> int | None:
        """Counted from 1; None where all steps are correct."""
        index = self.check.first_wrong_step
        return None if index is None else index + 1


def check_run(run: Path) -> None:
    """Raises UserError where the run's directory is missing, as where an expression stands in its place."""
    if not run.is_dir():
        raise UserError(f"no run at {str(run)!r}; give the MODEL_DIR of a run, then the expressions")


def infer(
    run: Path,
    expressions: Sequence[str],
    step: int | str | None = None,
    batch_size: int = 256,
    decode_dtype: str = "float32",
) -> list[Prediction]:
    """Decodes explanations of the expressions greedily, in their order, with kernels of `decode_dtype`.

    Raises UserError for an expression that cannot be parsed or holds values that the run was not trained on.
    Expressions shorter or longer than those trained on are answered, with a note on standard error.
    """
    if not expressions:
        raise UserError("no expressions; give some as arguments, in --input or on standard input")
    weights = run_checkpoint.open_run(run, step)
    meta = weights.meta
    if meta["explanation"] is None:
        raise UserError(f"{run} was trained on {meta['task']}, which must be a task of ListOps explanations")
    style, modulus = meta["explanation"]["style"], meta["explanation"]["modulus"]
    if style not in listops.STYLES:
        style = "none"  # the control's steps have no order: the answer alone is checked
    config = listops_config(meta["task"])
    trees = [_parse(expression, config) for expression in expressions]
    vocabulary = weights.tokenizer()
    # The model reads what it was trained on: the bracket form, whatever form was typed.
    texts = [listops.format(tree) for tree in trees]
    inputs = [[*vocabulary.encode(text), EOS_ID] for text in texts]
    if note := _length_note([len(ids) for ids in inputs], meta["lengths"]):
        print(note, file=sys.stderr)
    # Room for the gold explanation, so that a long one is not cut off.
    fullest = "medium" if style == "none" else style
    length = 1 + max(len(vocabulary.encode(listops.explain(tree, fullest, modulus))) for tree in trees)
    length = max(length, meta["lengths"]["targets"])
    with tqdm(total=len(inputs), desc="decoding", unit=" examples", disable=None, leave=False) as bar:
        loaded = load_model(weights, DecodeConfig(decode_dtype), min(batch_size, len(inputs)))
        outputs = loaded.run_generator().generate(inputs, length, bar.update)
    return [
        Prediction(text, output.text, listops.check(output.text, tree, style, modulus), modulus)
        for text, output, tree in zip(texts, outputs, trees, strict=True)
    ]


def _length_note(lengths: Sequence[int], trained: Mapping[str, int]) -> str | None:
    """Returns a note on inputs whose number of tokens the run was not trained on; None where all are of those."""
    shortest, longest = trained["min_inputs"], trained["inputs"]
    outside = sum(not shortest <= n <= longest for n in lengths)
    if not outside:
        return None
    found = f"the input has {lengths[0]} tokens"
    if len(lengths) > 1:
        found = f"{outside:,} of {len(lengths):,} inputs, which have {min(lengths)} to {max(lengths)} tokens, differ"
    return f"note: {found}; the model was trained on {shortest} to {longest}: expect errors"


def write_inferences(
    model: T5,
    decode_config: DecodeConfig,
    checkpoint_path: str,
    output_dir: str,
    mixture_or_task_name: str,
    module: str = "tasks",
    batch_size: int = 256,
    seqio_split: str = "test",
    model_parallelism: int = 1,
    tfds_data_dir: str | None = None,
) -> None:
    """Decodes a task, or each task of a mixture, with a checkpoint of any format.

    Writes `output_dir`/<task>-predict.jsonl-00000-of-00001, named and filled as T5X's infer.py does.
    """
    require_name(
        CHECKPOINT_PATH=checkpoint_path, INFER_OUTPUT_DIR=output_dir, MIXTURE_OR_TASK_NAME=mixture_or_task_name
    )
    require_positive(BATCH_SIZE=batch_size)
    prediction_files.make_directory(INFER_OUTPUT_DIR=output_dir)
    weights = convert.open_weights(checkpoint_path)
    caches = load_evaluation_tasks(mixture_or_task_name, module, seqio_split, tfds_data_dir, model.config, weights)
    loaded = load_model(weights, decode_config, batch_size, model, sharding.make_mesh(model_parallelism))
    for cache in caches:
        evaluator = Evaluator(cache)
        predictions = [output.text for output in evaluator.generate(loaded.task_generator(cache))]
        prediction_files.write_predictions(Path(output_dir), cache.task, evaluator.records, predictions)


def _parse(expression: str, config: Config | None) -> listops.Tree:
    tree = listops.parse(expression)
    if config:
        allowed = config.train.values
        for value in listops.values(tree):
            if value not in allowed:
                where = "left out of" if min(allowed) < value < max(allowed) else "outside"
                raise UserError(
                    f"{value} in {expression!r} is {where} {min(allowed)} to {max(allowed)}, "
                    f"the values of config {config.name!r} that the model was trained on"
                )
    return tree


def read_expressions(path: Path) -> list[str]:
    """Returns the expressions of a file: one a line, or the sources of a released TSV file (*.tsv).

    Raises UserError that names the line of the first that cannot be parsed.
    """
    try:
        if path.suffix == ".tsv":
            return [listops.format(example.tree) for example in read_release(path)]
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"cannot read {path} ({e}); give a text file with one expression a line") from e
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                listops.parse(line)
            except listops.ListOpsError as e:
                raise UserError(f"{path} line {number}: {e.line}") from e
    return [line.strip() for line in lines if line.strip()]


def write_jsonl(predictions: Sequence[Prediction], path: Path) -> None:
    """Writes one JSON object a line, atomically; `-` is standard output."""
    write_json_lines(path, [prediction.json() for prediction in predictions])
