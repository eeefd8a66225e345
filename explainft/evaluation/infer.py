"""Answers from a trained run: the expression in, explanation, answer and check out."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from explainft import listops
from explainft.checkpoints import convert, run_checkpoint
from explainft.core.atomic_files import open_output
from explainft.core.errors import UserError, require_name, require_positive
from explainft.data import token_cache
from explainft.data.task_registry import Iterative
from explainft.data.vocabulary import EOS_ID
from explainft.evaluation import evaluate
from explainft.generation.generator import Generator
from explainft.generation.quantization import DecodeConfig, decode_parameters
from explainft.listops.configs import CONFIGS, Config
from explainft.listops.release import read_release
from explainft.model.t5 import T5
from explainft.parallel import hosts

PRETRAINED = Path(__file__).parents[1] / "pretrained" / "medium_tiny"  # made by `make pretrained`


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What the model wrote about one expression, and what the checker says of it."""

    expression: str
    explanation: str
    check: listops.Check
    modulus: int = 10

    def text(self) -> str:
        answer = "none" if self.check.final_answer is None else self.check.final_answer
        right = listops.evaluate(listops.parse(self.expression), self.modulus)
        verdict = "correct" if self.check.answer_correct else f"wrong, it is {right}"
        steps = f"{self.check.steps_correct} of {self.check.steps_total} steps correct"
        if self.check.first_wrong_step is not None:
            steps += f", first wrong step {self.check.first_wrong_step + 1}"
        indented = "\n".join(f"  {line}" for line in self.explanation.split("\n"))
        return f"{self.expression}\n{indented}\nanswer: {answer} ({verdict}; {steps})"

    def json(self) -> dict[str, Any]:
        check = {name: value for name, value in self.check._asdict().items() if name != "final_answer"}
        return {
            "expression": self.expression,
            "answer": self.check.final_answer,
            "explanation": self.explanation,
            "check": check,
        }


def check_run(run: Path) -> None:
    """Refuses what is no run's folder, such as an expression where the folder was left out."""
    if not run.is_dir():
        raise UserError(f"no run at {str(run)!r}; give the MODEL_DIR of a run, then the expressions")


def infer(
    run: Path,
    expressions: Sequence[str],
    step: int | str | None = None,
    batch_size: int = 256,
    decode_dtype: str = "float32",
) -> list[Prediction]:
    """Greedy explanations of the expressions, in their order, with kernels of `decode_dtype` (see quantization.py).

    Raises UserError for an expression that cannot be read or holds values that the run was not trained on. An
    expression longer than trained on is answered, with a note on standard error.
    """
    if not expressions:
        raise UserError("no expressions; give some as arguments, in --input or on standard input")
    found = run_checkpoint.open_run(run, step)
    meta = found.meta
    if meta["explanation"] is None:
        raise UserError(f"{run} was trained on {meta['task']}, which is no task of ListOps explanations")
    style, modulus = meta["explanation"]["style"], meta["explanation"]["modulus"]
    if style not in listops.STYLES:
        style = "none"  # the steps of the control stand in no order: the answer alone is checked
    config = _config(meta["task"])
    trees = [_parse(expression, config) for expression in expressions]
    vocabulary = found.tokenizer()
    # The model reads what it was trained on: the bracket form, whatever form was typed.
    texts = [listops.format(tree) for tree in trees]
    inputs = [[*vocabulary.encode(text), EOS_ID] for text in texts]
    longest = max(map(len, inputs))
    if longest > meta["lengths"]["inputs"]:
        print(
            f"note: {longest} input tokens, trained on at most {meta['lengths']['inputs']}: expect mistakes",
            file=sys.stderr,
        )
    # Room for the right explanation, so that a long one is not cut off.
    fullest = "medium" if style == "none" else style
    length = 1 + max(len(vocabulary.encode(listops.explain(tree, fullest, modulus))) for tree in trees)
    length = max(length, meta["lengths"]["targets"])
    rows = min(batch_size, len(inputs))
    with tqdm(total=len(inputs), desc="decoding", unit=" examples", disable=None, leave=False) as bar:
        model = T5(found.architecture())
        params = decode_parameters(model.config, found.tree(), decode_dtype, meta["output_ids"])
        iterative = Iterative.from_meta(meta["next_input"])
        generator = Generator(model, params, vocabulary, rows, iterative)
        explanations = generator.generate(inputs, length, bar.update)
    return [
        Prediction(text, explanation, listops.check(explanation, tree, style, modulus), modulus)
        for text, explanation, tree in zip(texts, explanations, trees, strict=True)
    ]


def write_inferences(
    model: T5,
    decode_config: DecodeConfig,
    checkpoint_path: str,
    output_dir: str,
    mixture_or_task_name: str,
    module: str = "tasks",
    batch_size: int = 256,
    split: str = "test",
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
    evaluate.make_folder(INFER_OUTPUT_DIR=output_dir)
    weights = convert.open_weights(checkpoint_path)
    names = token_cache.task_names(mixture_or_task_name, module)
    caches = [token_cache.load(name, split, module, tfds_data_dir) for name in names]
    for cache in caches:
        cache.require_texts()
        evaluate.check_vocabulary(model.config, cache, weights)
    params = evaluate.placed_parameters(weights, model.config, model_parallelism)
    for cache in caches:
        texts = evaluate.decode(
            model,
            decode_config.parameters_for(model.config, params, cache, weights.meta),
            cache,
            batch_size,
            len(cache),
        )
        lines = [
            {"inputs": {k: v for k, v in record.items() if k.endswith("_pretokenized")}, "prediction": text}
            for record, text in zip(cache.records, texts, strict=True)
        ]
        if hosts.writes():
            file = Path(output_dir) / f"{cache.task}-predict.jsonl-00000-of-00001"
            _write_lines(lines, file)
            print(file)


def _config(task: str) -> Config | None:
    """The problem of a task of ours, by its name; None for anybody else's task."""
    names = [name for name in CONFIGS if task.startswith(f"explained_{name}_")]
    return CONFIGS[max(names, key=len)] if names else None


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
    """The expressions of a file: one a line, or the sources of a released TSV file (*.tsv).

    Raises UserError that names the line of the first that cannot be read.
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
    _write_lines([prediction.json() for prediction in predictions], path)


def _write_lines(lines: Sequence[dict[str, Any]], path: Path) -> None:
    try:
        with open_output(path) as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
    except OSError as e:
        raise UserError(f"cannot write {path} ({e.strerror}); name a file in a writable folder") from e
