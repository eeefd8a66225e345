"""SeqIO tasks over sampled outputs. `import tasks.samples` reads the descriptor of each dataset and opens no data.

    explained_<name>_<rows>               for training: splits train and validation
    explained_<name>_<rows>_eval_<split>  for evaluation, on a split of the dataset
    explained_<name>_<rows>_eval          the mixture of those

for each dataset that `explainft data samples --name NAME --rows ROWS` wrote; several rows are joined by `_`, as in
verifier_gold. Each is there on T5's vocabulary, with what it cannot write replaced, and again with the suffix _compact
on the vocabulary that ships with the package.

The tasks of ListOps and of imported questions are registered too: a run may be evaluated on its generator's own.
MIXTURE_OR_TASK_MODULE = 'tasks.samples' is all that T5X needs to train on them.
"""

import functools
from pathlib import Path
from typing import Any

import seqio

from explainft.data import task_registry
from explainft.data.questions.importing import data_directory
from explainft.data.sample_datasets import (
    DATASET,
    EACH_STEP,
    LABELS,
    VERSION,
    SampleDescriptor,
    descriptor_file,
    read_descriptors,
)
from explainft.data.target_parts import ANSWER, CONTEXT
from explainft.evaluation import metrics
from explainft.evaluation.targets import postprocess_sample
from explainft.samples.prompts import has_prefix
from tasks import preprocessors, questions
from tasks.vocabularies import COMPACT_VOCABULARY, T5_QUESTIONS

VOCABULARIES = {"": T5_QUESTIONS, "_compact": COMPACT_VOCABULARY}


class SamplesSource(seqio.TfdsDataSource):
    """Reads a dataset of samples. `splits` maps a task's split names to those of the dataset."""

    def __init__(self, descriptor: SampleDescriptor, splits: dict[str, str]):
        super().__init__(tfds_name=f"{DATASET}/{descriptor.dataset}:{VERSION}", splits=splits, read_only=True)
        self._descriptor = descriptor
        self.descriptor_file = descriptor_file(descriptor.dataset, data_directory(self.tfds_dataset.data_dir))

    def training_meta(self) -> dict[str, Any]:
        """Returns what a run that trains on the dataset keeps of it."""
        return self._descriptor.training_meta()


def register_datasets() -> None:
    """Registers the tasks of all datasets that are there now."""
    questions.register_datasets()
    for descriptor in read_descriptors(_data_directory()):
        for suffix, vocabulary in VOCABULARIES.items():
            _register(descriptor, suffix, vocabulary)


def explain_missing(name: str) -> str | None:
    """Returns why the module registers no task of that name."""
    data_dir = _data_directory()
    names = ", ".join(f"explained_{descriptor.dataset}" for descriptor in read_descriptors(data_dir)) or "none"
    return f"tasks of the samples in {data_dir}: {names}; make another dataset with `explainft data samples`"


def _data_directory() -> Path:
    given = questions.QuestionsSource("any", {"train": "train"}).tfds_dataset.data_dir  # that of --tfds_data_dir
    return data_directory(given)


def _register(descriptor: SampleDescriptor, suffix: str, vocabulary: seqio.Vocabulary) -> None:
    name = f"explained_{descriptor.dataset}"
    _add_task(f"{name}{suffix}", descriptor, {split: split for split in ("train", "validation")}, vocabulary, ANSWER)
    splits = [split for split in descriptor.examples if split != "train"]
    eval_tasks = [f"{name}_eval_{split}{suffix}" for split in splits]
    for task, split in zip(eval_tasks, splits, strict=True):
        # A prediction is the last label: those before it are given.
        _add_task(task, descriptor, {"validation": split, "test": split}, vocabulary, CONTEXT)
    mixture = f"{name}_eval{suffix}"
    seqio.MixtureRegistry.remove(mixture)
    seqio.MixtureRegistry.add(mixture, eval_tasks, default_rate=1.0)


def _add_task(
    name: str, descriptor: SampleDescriptor, splits: dict[str, str], vocabulary: seqio.Vocabulary, steps: int
) -> None:
    """`steps` is the part of the labels between lines, where there are some."""
    generates = set(descriptor.rows) != {"verifier"}
    kwargs = {key: value for key, value in descriptor.generator.items() if generates}
    if "style" in kwargs:  # ListOps, whose runs are known by it
        kwargs.pop("problem")
    one_label = descriptor.labeled_by != EACH_STEP or steps == CONTEXT
    if not generates and one_label:
        task_registry.register_labels(name, LABELS)
    seqio.TaskRegistry.remove(name)  # importlib.reload registers them again
    seqio.TaskRegistry.add(
        name,
        source=SamplesSource(descriptor, splits),  # pyright: ignore[reportArgumentType] as seqio's own sources
        preprocessors=_steps(descriptor, steps),
        output_features={key: seqio.Feature(vocabulary, add_eos=True) for key in ("inputs", "targets")},
        postprocess_fn=functools.partial(postprocess_sample, **kwargs),
        metric_fns=[metrics.score, *([metrics.label_balance] if "verifier" in descriptor.rows else [])],
    )


def _steps(descriptor: SampleDescriptor, steps: int) -> list[Any]:
    """Returns the preprocessors. What the decoder reads of the prompt carries no loss."""
    # Not append_eos_after_trim: a target that is cut off must not look complete.
    if not has_prefix(descriptor.prompt):
        return [preprocessors.tokenize, seqio.CacheDatasetPlaceholder(), seqio.preprocessors.append_eos]
    split = preprocessors.split_prefix
    if descriptor.labeled_by == EACH_STEP:
        split = functools.partial(preprocessors.split_steps, steps=steps)
    return [
        split,
        preprocessors.tokenize_spans,
        seqio.CacheDatasetPlaceholder(),
        seqio.preprocessors.append_eos,
        preprocessors.append_eos_part,
    ]


register_datasets()
