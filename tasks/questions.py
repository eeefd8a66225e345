"""SeqIO tasks over imported questions. `import tasks.questions` reads the descriptor of each dataset and opens no data.

    explained_<name>_<form>                      for training: splits train and validation
    explained_<name>_<form>_eval_<split>         for evaluation, on a split of the dataset
    explained_<name>_<form>_eval                 the mixture of the form's evaluation tasks
    explained_<name>_<form>_eval_<split>_ranked  the choices of the same examples, ranked by their likelihood

for each dataset that `explainft data import --name NAME` wrote below the directory of datasets: --tfds_data_dir, else
TFDS_DATA_DIR, else TensorFlow Datasets' own. The forms are those of explainft.data.questions.forms. A dataset without
explanations has the form `answer` alone. Choices are ranked where a target is the answer alone: in the form `answer`
and in the answer tasks of multi-task forms. A multi-task form (explainft.data.multitask) has more tasks, with the
endings that tasks.multitask lists; of one without a split validation, the tasks hold out the last twentieth of train,
at least one row. A dataset that was imported without answers has no tasks.

The vocabulary is T5's, with what it cannot write replaced. MIXTURE_OR_TASK_MODULE = 'tasks.questions' is all that T5X
needs to train on them.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import seqio

from explainft.data import multitask
from explainft.data.questions.descriptor import (
    DATASET,
    VERSION,
    Descriptor,
    descriptor_file,
    read_descriptor,
    read_descriptors,
)
from explainft.data.questions.forms import FORMS
from explainft.data.questions.importing import data_directory
from explainft.evaluation import metrics, overlap
from explainft.evaluation.targets import postprocess_question
from tasks import multitask_forms, preprocessors
from tasks.ranked import add_ranked
from tasks.vocabularies import T5_QUESTIONS

HELD_OUT = {"train": "train[:95%]", "validation": "train[95%:]"}
HELD_OUT_ROW = {"train": "train[:-1]", "validation": "train[-1:]"}  # of fewer than 20 rows


class QuestionsSource(seqio.TfdsDataSource):
    """Reads an imported dataset. `splits` maps a task's split names to those of the dataset, or to parts of them."""

    def __init__(self, name: str, splits: dict[str, str]):
        super().__init__(tfds_name=f"{DATASET}/{name}:{VERSION}", splits=splits, read_only=True)
        self._name = name

    @property
    def descriptor_file(self) -> Path:
        """What tells one import of the dataset from another."""
        return descriptor_file(self._name, data_directory(self.tfds_dataset.data_dir))

    def training_meta(self) -> dict[str, Any]:
        """Returns what a run that trains on the dataset keeps of it: what tells one import from another."""
        return {"dataset_digest": read_descriptor(self.descriptor_file).digests["train"]}


def register_datasets() -> None:
    """Registers the tasks of all datasets that are there now."""
    for descriptor in read_descriptors(datasets_directory()):
        if descriptor.answered:
            register(descriptor)


def datasets_directory() -> Path:
    """Returns where datasets lie: a source has the directory that --tfds_data_dir names."""
    return data_directory(QuestionsSource("any", {"train": "train"}).tfds_dataset.data_dir)


def task_splits(descriptor: Descriptor) -> dict[str, str]:
    """Returns the parts of the dataset by the splits of its tasks: of one without validation, a part of train is."""
    splits = {split: split for split in descriptor.rows}
    if "train" in splits and "validation" not in splits:
        rows = descriptor.rows["train"]
        splits |= HELD_OUT if rows >= 20 else HELD_OUT_ROW if rows > 1 else {"validation": "train"}
    return splits


def register(descriptor: Descriptor) -> None:
    """Registers the tasks and mixtures of a dataset."""
    splits = task_splits(descriptor)
    explained = any(descriptor.explained.values())
    for form in FORMS if explained else FORMS[:1]:
        name = f"explained_{descriptor.name}_{form}"
        if "train" in splits:
            _add_task(name, descriptor, {split: splits[split] for split in ("train", "validation")}, form)
        eval_tasks = [f"{name}_eval_{split}" for split in splits if split != "train"]
        for task in eval_tasks:
            split = splits[task.removeprefix(f"{name}_eval_")]
            _add_task(task, descriptor, {"validation": split, "test": split}, form)
            if descriptor.problem == "choice" and form == "answer":
                add_ranked(task)
        seqio.MixtureRegistry.remove(f"{name}_eval")
        if eval_tasks:
            seqio.MixtureRegistry.add(f"{name}_eval", eval_tasks, default_rate=1.0)
    if explained:
        _register_multitask(descriptor, splits)


def _register_multitask(descriptor: Descriptor, splits: dict[str, str]) -> None:
    def add_task(name: str, splits: dict[str, str], form: str, tasks: Sequence[str]) -> None:
        multitask_forms.add_task(
            name,
            QuestionsSource(descriptor.name, splits),
            functools.partial(multitask_forms.question_rows, form=form, tasks=tasks),
            T5_QUESTIONS,
            functools.partial(postprocess_question, problem=descriptor.problem, form=form),
            metric_fns(descriptor, form if multitask.EXPLANATION in tasks else "answer"),
        )
        if descriptor.problem == "choice" and "_eval_" in name and tasks == (multitask.ANSWER,):
            add_ranked(name)

    training = {split: splits[split] for split in ("train", "validation")} if "train" in splits else None
    eval_splits = {split: part for split, part in splits.items() if split != "train"}
    multitask_forms.register(f"explained_{descriptor.name}", "", add_task, training, eval_splits)


def explain_missing(name: str) -> str | None:
    """Returns why the module registers no task of that name; None where it cannot tell."""
    data_dir = datasets_directory()
    descriptors = read_descriptors(data_dir)
    found = [descriptor for descriptor in descriptors if name.startswith(f"explained_{descriptor.name}_")]
    if not found:
        names = ", ".join(descriptor.name for descriptor in descriptors) or "none"
        return f"datasets in {data_dir}: {names}; import another with `explainft data import`"
    descriptor = max(found, key=lambda descriptor: len(descriptor.name))
    if not descriptor.answered:
        return f"dataset {descriptor.name!r} was imported with --unanswered; import it with answers"
    if not any(descriptor.explained.values()) and not name.startswith(f"explained_{descriptor.name}_answer"):
        return f"dataset {descriptor.name!r} has no explanations; set FORM to 'answer', or import some"
    if "train" not in descriptor.rows:
        return f"dataset {descriptor.name!r} has no split train, only {', '.join(descriptor.rows)}; import one"
    return None


def _add_task(name: str, descriptor: Descriptor, splits: dict[str, str], form: str) -> None:
    seqio.TaskRegistry.remove(name)  # importlib.reload registers them again
    seqio.TaskRegistry.add(
        name,
        source=QuestionsSource(descriptor.name, splits),  # pyright: ignore[reportArgumentType] as seqio's own sources
        preprocessors=[
            functools.partial(preprocessors.question, form=form),
            preprocessors.tokenize,
            seqio.CacheDatasetPlaceholder(),
            # Not append_eos_after_trim: a target that is cut off must not look complete.
            seqio.preprocessors.append_eos,
        ],
        output_features={key: seqio.Feature(T5_QUESTIONS, add_eos=True) for key in ("inputs", "targets")},
        postprocess_fn=functools.partial(postprocess_question, problem=descriptor.problem, form=form),
        metric_fns=metric_fns(descriptor, form),
    )


def metric_fns(descriptor: Descriptor, form: str) -> list[Callable[..., dict[str, float]]]:
    """Returns the metrics of a task of a form; the overlap of texts where outputs are free texts."""
    free_text = descriptor.problem == "text" or form != "answer"
    return [metrics.score, overlap.score] if free_text else [metrics.score]


register_datasets()
