"""Answers of a trained run: the question in; explanation, answer and check out."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from explainft.checkpoints import convert, run_checkpoint
from explainft.core.errors import UserError, require_name, require_positive
from explainft.data.vocabulary import EOS_ID
from explainft.evaluation import prediction_files
from explainft.evaluation.evaluator import Evaluator
from explainft.evaluation.inference_inputs import InferenceInput, Row, input_reader
from explainft.evaluation.loading import load_evaluation_tasks, load_model
from explainft.evaluation.prediction_files import write_json_lines
from explainft.evaluation.step_checks import check_fields
from explainft.evaluation.targets import Target
from explainft.generation.generator import Output
from explainft.generation.quantization import DecodeConfig
from explainft.model.t5 import T5
from explainft.parallel import sharding
from explainft.problems.problem import StepCheck

PRETRAINED = Path(__file__).parents[1] / "pretrained" / "medium_tiny"  # made by `make pretrained`


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A model's output for one question, and its check. What people read counts steps from 1."""

    input: InferenceInput
    output: Output

    @property
    def _target(self) -> Target:
        return self.input.target

    @property
    def explanation(self) -> str:
        """The part of the output that explains."""
        return self._target.explanation(self.output.text)

    @property
    def answer(self) -> str | None:
        """The final answer; None where there is none."""
        return self._target.read_answer(self.output.text)

    @property
    def gold(self) -> str | None:
        """The gold answer; None where it is not known."""
        return str(self._target.example["answer"]) or None

    @property
    def correct(self) -> bool | None:
        """Whether the answer is the gold one; None where that is not known."""
        return None if self.gold is None else self._target.is_correct(self.answer)

    @property
    def check(self) -> StepCheck | None:
        """The steps of the explanation, counted; None where they cannot be checked."""
        return self._target.check(self.output.text)

    def text(self) -> str:
        """Returns the question, the output and its check, as people read them."""
        found = [] if self.correct is None else ["correct" if self.correct else f"wrong, it is {self.gold}"]
        if (check := self.check) is not None:
            found.append(f"{check.correct} of {check.total} steps correct")
            if check.unreadable:
                found[-1] += f", {check.unreadable} unreadable"
            if check.first_wrong_step is not None:
                found[-1] += f", first wrong step {check.first_wrong_step + 1}"
        indented = "\n".join(f"  {line}" for line in self.output.text.split("\n"))
        answer = "none" if self.answer is None else self.answer
        return f"{self.input.text}\n{indented}\nanswer: {answer}" + (f" ({'; '.join(found)})" if found else "")

    def json(self) -> dict[str, Any]:
        """Returns the user's row with the prediction; of a ListOps expression, its answer as a number."""
        steps = check_fields(self.check or StepCheck())
        cut = {"cut": True} if self.output.cut else {}
        if self._target.problem.name == "listops" and self._target.form is None:
            del steps["steps_unreadable"]  # every step of ListOps is readable
            return {
                **self.input.row,
                "answer": None if self.answer is None else int(self.answer),
                "explanation": self.output.text,
                "check": {"answer_correct": bool(self.correct), **steps},
                **cut,
            }
        correct = {} if self.correct is None else {"correct": self.correct}
        checked = {} if self.check is None else {"check": steps}
        prediction = {"answer": self.answer, "text": self.output.text, **correct, **checked, **cut}
        return {**self.input.row, "prediction": prediction}


def check_run(run: Path) -> None:
    """Raises UserError where the run's directory is missing, as where an expression stands in its place."""
    if not run.is_dir():
        raise UserError(f"no run at {str(run)!r}; give the MODEL_DIR of a run, then the questions")


def infer(
    run: Path,
    questions: Sequence[str | Row] = (),
    step: int | str | None = None,
    batch_size: int = 256,
    decode_dtype: str = "float32",
    file: Path | None = None,
    layout: str = "jsonl",
) -> list[Prediction]:
    """Decodes explanations of the questions greedily, in their order, with kernels of `decode_dtype`.

    Questions are expressions of ListOps, or texts and rows of what the run was trained on; those of `file` follow.
    `layout` is that of its rows, by the names of `data import --format`. Raises UserError for a question that cannot
    be parsed, and for an expression with values that the run was not trained on. Inputs shorter or longer than those
    trained on are answered, with a note on standard error.
    """
    weights = run_checkpoint.open_run(run, step)
    reader = input_reader(weights.meta, run, layout)
    parsed = reader.parse(questions) + (reader.read(file) if file is not None else [])
    if not parsed:
        raise UserError("no questions; give some as arguments, in --input or on standard input")
    vocabulary = weights.tokenizer()
    inputs = [[*vocabulary.encode(one.text), EOS_ID] for one in parsed]
    if note := _length_note([len(ids) for ids in inputs], weights.meta["lengths"]):
        print(note, file=sys.stderr)
    length = max(reader.max_length(one, vocabulary) for one in parsed)
    with tqdm(total=len(inputs), desc="decoding", unit=" examples", disable=None, leave=False) as bar:
        loaded = load_model(weights, DecodeConfig(decode_dtype), min(batch_size, len(inputs)))
        outputs = loaded.run_generator().generate(inputs, length, bar.update)
    if cut := sum(output.cut for output in outputs):
        print(f"note: {cut:,} of {len(outputs):,} outputs were cut at the limit of {length} tokens", file=sys.stderr)
    return [Prediction(one, output) for one, output in zip(parsed, outputs, strict=True)]


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


def write_jsonl(predictions: Sequence[Prediction], path: Path) -> None:
    """Writes one JSON object a line, atomically; `-` is standard output."""
    write_json_lines(path, [prediction.json() for prediction in predictions])
