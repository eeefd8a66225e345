"""What is sampled: the examples of tasks or questions, each with an id, its target and its token ids."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from explainft.checkpoints.weights import Weights
from explainft.core.errors import UserError
from explainft.data import few_shot_names
from explainft.data.questions.names import validation_task
from explainft.data.token_cache import Record, TokenCache
from explainft.data.vocabulary import EOS_ID
from explainft.evaluation.inference_inputs import InferenceInput, Row, input_reader
from explainft.evaluation.loading import LoadedModel, load_evaluation_tasks, own_vocabulary
from explainft.evaluation.targets import Target, read_target
from explainft.generation.decoding import Tokens
from explainft.generation.generator import Generator
from explainft.listops.configs import CONFIGS
from explainft.samples.files import OWN_FIELDS, example_id

QUESTIONS_MODULE = "tasks.questions"
LISTOPS_MULTITASK_MODULE = "tasks.multitask"
FEW_SHOT_MODULE = "tasks.few_shot"
LENGTH_STEP = 32  # tokens


@dataclasses.dataclass(frozen=True)
class SampledInput:
    """An example to sample outputs of up to `max_length` tokens of.

    `row` are the user's or the task's own fields, as `infer` writes them.
    """

    id: str
    text: str
    tokens: Tokens
    target: Target
    gold: str | None
    row: Row
    max_length: int

    def fields(self) -> dict[str, Any]:
        """Returns the fields of the example as a line of a sample file has them."""
        example = {name: value for name, value in self.target.example.items() if name not in (*OWN_FIELDS, "id")}
        return {"id": self.id, **example, "gold": self.gold}

    def inference_input(self) -> InferenceInput:
        return InferenceInput(self.text, self.target, self.row)


@dataclasses.dataclass(frozen=True)
class Part:
    """Inputs with one generator: those of a task (None: of no task)."""

    task: str | None
    inputs: Sequence[SampledInput]
    generator: Generator

    def __post_init__(self):
        if self.generator.iterative is not None:
            raise UserError(
                f"{self.task or 'the run'} is decoded in several rounds; sample a task that is decoded in one"
            )
        if self.generator.forced is not None:
            raise UserError(f"outputs of {self.task} are given fixed words; sample the answer task of its form")


@dataclasses.dataclass(frozen=True)
class TaskInputs:
    """The first `num_examples` of each evaluation task of a mixture (None: all)."""

    mixture_or_task: str
    module: str
    seqio_split: str = "validation"
    num_examples: int | None = None
    tfds_data_dir: str | None = None

    def read(self, weights: Weights) -> list[TokenCache]:
        """Returns the tasks. Raises UserError where one cannot be decoded or its outputs cannot be read."""
        arguments = (self.mixture_or_task, self.module, self.seqio_split, self.tfds_data_dir)
        vocabulary = own_vocabulary(weights)
        caches = load_evaluation_tasks(*arguments, weights.architecture(), weights, vocabulary)
        for cache in caches:
            if cache.labels() is not None:
                raise UserError(
                    f"{cache.task} must be a task that is decoded; score a verifier's with `explainft score`"
                )
            _target(cache, cache.records[0])
        return caches

    def parts(self, caches: Sequence[TokenCache], loaded: LoadedModel) -> list[Part]:
        parts = []
        for cache in caches:
            records = cache.records[: self.num_examples]
            # Of the whole task: a sample does not depend on the number of examples.
            max_length = int(cache.targets.lengths.max())
            inputs = [_task_input(cache, i, record, max_length) for i, record in enumerate(records)]
            generator = loaded.task_generator(cache)
            assert isinstance(generator, Generator)  # `read` refuses tasks of labels
            parts.append(Part(cache.task, inputs, generator))
        return parts


def _task_input(cache: TokenCache, i: int, record: Record, max_length: int) -> SampledInput:
    text, gold, target = record["inputs_pretokenized"], record["targets_pretokenized"], _target(cache, record)
    own = {"expression": text} if target.form is None else target.example
    return SampledInput(example_id(record.get("id"), text), text, cache.inputs[i], target, gold, own, max_length)


def _target(cache: TokenCache, record: Record) -> Target:
    kept = cache.postprocess()(record["targets_pretokenized"], example=record, is_target=True)
    target = read_target(kept)
    if target is None:
        raise UserError(
            f"{cache.task} must be a task of ListOps explanations or of imported questions, whose outputs can be read; "
            "score other tasks with `explainft eval`"
        )
    return target


@dataclasses.dataclass(frozen=True)
class QuestionInputs:
    """Questions as `explainft infer` reads them, and those of a file."""

    questions: Sequence[str | Row]
    file: Path | None = None
    layout: str = "jsonl"

    def read(self, weights: Weights) -> list[tuple[InferenceInput, int]]:
        """Returns the inputs, each with its length limit. Raises UserError for what the run cannot answer."""
        if not weights.meta:
            raise UserError(f"{weights.origin} cannot answer questions; give the MODEL_DIR of a run, or --mixture")
        reader = input_reader(weights.meta, weights.origin, self.layout)
        inputs = reader.parse(self.questions) + (reader.read(self.file) if self.file is not None else [])
        if not inputs:
            raise UserError("no questions; give some as arguments, in --input or on standard input")
        vocabulary, trained = weights.tokenizer(), weights.meta["lengths"]["targets"]
        limits = [reader.max_length(one, vocabulary) for one in inputs]
        # Above the trained length in steps: inputs of one limit are decoded together, and few limits compile.
        steps = [n if n <= trained else -(-n // LENGTH_STEP) * LENGTH_STEP for n in limits]
        return list(zip(inputs, steps, strict=True))

    def parts(self, found: Sequence[tuple[InferenceInput, int]], loaded: LoadedModel) -> list[Part]:
        vocabulary = loaded.weights.tokenizer()
        sampled = [
            SampledInput(
                example_id(one.row.get("id"), one.text),
                one.text,
                [*vocabulary.encode(one.text), EOS_ID],
                one.target,
                None,
                one.row,
                max_length,
            )
            for one, max_length in found
        ]
        return [Part(None, sampled, loaded.run_generator())]


Inputs = TaskInputs | QuestionInputs


def check_ids(inputs: Sequence[SampledInput]) -> None:
    """Raises UserError for an id that two examples have."""
    places: dict[str, int] = {}
    for place, one in enumerate(inputs, 1):
        if one.id in places:
            both = f"examples {places[one.id]} and {place}"
            if one.row.get("id") in (None, ""):
                raise UserError(
                    f"{both} are the same, {one.text!r}; remove one, give JSON rows with ids, or sample them into two "
                    "files"
                )
            raise UserError(
                f"{both} have the same id {one.id!r}; give each an id of its own, or sample them into two files"
            )
        places[one.id] = place


def dataset_task(meta: Mapping[str, Any], dataset: str, split: str) -> tuple[str, str]:
    """Returns the evaluation task of a dataset's split in the form that a run was trained on, and its module.

    A run of few-shot prompts has the same prompts there.
    """
    few_shot = few_shot_names.parse(str(meta["task"]))
    if few_shot is not None:
        form = (meta.get("questions") or {}).get("form") or (meta.get("explanation") or {}).get("style")
        task = dataclasses.replace(few_shot, variant=f"explained_{dataset}_{form}", eval_split=split)
        return str(task), FEW_SHOT_MODULE
    if dataset in CONFIGS:
        explanation = meta.get("explanation") or {}
        style, form = explanation.get("style"), explanation.get("form")
        if style is None:
            raise UserError(f"dataset {dataset!r} is of ListOps, which the run was not trained on; name another")
        compact = "_compact" if str(meta["task"]).endswith("_compact") else ""
        if form is not None:
            return f"explained_{dataset}_{style}_{form}_eval_{split}{compact}", LISTOPS_MULTITASK_MODULE
        return f"explained_{dataset}_{style}_eval_{split}{compact}", "tasks"
    form = (meta.get("questions") or {}).get("form")
    if form is None:
        raise UserError(f"dataset {dataset!r} needs a run of imported questions, whose form it takes; name a --mixture")
    return validation_task(dataset, form).removesuffix("validation") + split, QUESTIONS_MODULE
