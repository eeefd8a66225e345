"""SeqIO tasks with demonstrations before each input. `import tasks.few_shot` reads descriptors and opens no data.

    explained_<dataset>_<form>_<k>_shot               for training: splits train and validation
    explained_<dataset>_<form>_<k>_shot_eval_<split>  for evaluation, on a split of the dataset
    explained_<dataset>_<form>_<k>_shot_eval          the mixture of those

and of choices, in the form `answer`, `..._eval_<split>_ranked`, which ranks them by their likelihood,
for k from 0 to 8. The dataset is an imported one, with the forms of explainft.data.questions.forms, or a ListOps config
with the styles none, short, medium and long; tasks of ListOps are there again with the suffix _compact. With
`_reworded` after `_shot` the prompt has other words. explainft.data.few_shot describes the prompts.

The demonstrations are fixed: those that were imported with the dataset, else the first of its split train. Any other k,
template or seed of sampled demonstrations has a name too (explainft.data.few_shot_names): the built-in engine and the
recipes register it when they need it, other programs by `register_name`.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import seqio
import tensorflow as tf

from explainft.data import few_shot, few_shot_names, task_registry
from explainft.data.few_shot import Pool
from explainft.data.few_shot_names import FewShotName
from explainft.data.questions import forms
from explainft.data.questions.descriptor import DEMONSTRATIONS, Descriptor, demonstrations_file, read_descriptors
from explainft.evaluation import metrics
from explainft.evaluation.targets import postprocess_listops, postprocess_question
from explainft.listops.configs import CONFIGS, EVAL_SPLITS
from tasks import TRAINING_SPLITS, VOCABULARIES, few_shot_pools, few_shot_rows, preprocessors, questions
from tasks.questions import QuestionsSource
from tasks.ranked import RANKED, add_ranked
from tasks.sources import ExplainedListopsSource
from tasks.vocabularies import T5_QUESTIONS


class FewShotQuestions(QuestionsSource):
    """Reads an imported dataset whose demonstrations and template are part of its tasks."""

    def __init__(self, descriptor: Descriptor, splits: dict[str, str], template: Path):
        super().__init__(descriptor.name, splits)
        self._digests = descriptor.digests
        self._template = template

    @property
    def descriptor_files(self) -> list[Path]:
        """What tells one import, and one wording, from another."""
        demonstrations = demonstrations_file(self.descriptor_file.parent)
        return [self.descriptor_file, demonstrations, self._template, Path(few_shot.__file__)]

    def training_meta(self) -> dict[str, Any]:
        """Returns what a run that trains on the dataset keeps of it."""
        digests = [self._digests[name] for name in ("train", DEMONSTRATIONS) if name in self._digests]
        return {"dataset_digest": "+".join(digests)}


class FewShotListops(ExplainedListopsSource):
    """Reads a config of ListOps whose template is part of its tasks."""

    def __init__(self, config: str, splits: dict[str, str], template: Path):
        super().__init__(config, splits)
        self.descriptor_files = [template, Path(few_shot.__file__)]


def register_datasets() -> None:
    """Registers the tasks of all imported datasets that are there now, and those of tasks.questions."""
    questions.register_datasets()
    for descriptor in _descriptors():
        if descriptor.answered:
            for form in _forms(descriptor):
                _register_all(
                    f"explained_{descriptor.name}_{form}", functools.partial(_add_questions, descriptor, form)
                )


def register_name(name: str) -> None:
    """Registers the task of a name with the other splits and their mixture; nothing where it names no dataset."""
    parts = few_shot_names.parse(name.removesuffix(RANKED))
    if parts is None:
        return
    if (found := _config_and_style(parts.variant)) is not None:
        _add_listops(*found, parts)
    for descriptor in _descriptors():
        for form in _forms(descriptor) if descriptor.answered and not parts.compact else ():
            if parts.variant == f"explained_{descriptor.name}_{form}":
                _add_questions(descriptor, form, parts)


def training_task(
    dataset: str, form: str, shots: int, template: str, demonstrations: str, seed: int, vocabulary: str
) -> str:
    """Registers the training task of few_shot_names.training_task, and returns its name."""
    name = few_shot_names.training_task(dataset, form, shots, template, demonstrations, seed, vocabulary)
    register_name(name)
    return name


def validation_task(
    dataset: str, form: str, shots: int, template: str, demonstrations: str, seed: int, vocabulary: str
) -> str:
    """Registers the evaluation task of few_shot_names.validation_task, and returns its name."""
    name = few_shot_names.validation_task(dataset, form, shots, template, demonstrations, seed, vocabulary)
    register_name(name)
    return name


def explain_missing(name: str) -> str | None:
    """Returns why the module registers no task of that name; None where it cannot tell."""
    parts = few_shot_names.parse(name)
    if parts is None:
        return "few-shot tasks are explained_<dataset>_<form>_<k>_shot, with _eval_<split> for evaluation"
    if _config_and_style(parts.variant) is not None:
        return f"ListOps has the splits {', '.join(EVAL_SPLITS)} for evaluation"
    if parts.compact:
        return "tasks of ListOps alone have the suffix _compact"
    return questions.explain_missing(f"{parts.variant}_eval" if parts.eval_split is not None else parts.variant)


def _register_all(variant: str, add: Callable[[FewShotName], None], compact: bool = False) -> None:
    for shots in few_shot.REGISTERED_SHOTS:
        for template in few_shot.TEMPLATES:
            add(FewShotName(variant, shots, template, compact=compact))


def _add_listops(config: str, style: str, parts: FewShotName) -> None:
    vocabulary = VOCABULARIES["_compact" if parts.compact else ""]
    modulus = CONFIGS[config.partition("-")[0]].modulus
    trained = ExplainedListopsSource(config, TRAINING_SPLITS)
    pool = functools.partial(few_shot_pools.listops_pool, trained, style, parts.shots, parts.seed is not None, config)

    def add_task(name: str, splits: dict[str, str]) -> None:
        _add_task(
            name,
            FewShotListops(config, splits, _template(parts)),
            [functools.partial(preprocessors.explain, style=style)],
            functools.partial(_add_demonstrations, parts=parts, pool=pool, id_field="inputs"),
            vocabulary,
            functools.partial(postprocess_listops, style=style, modulus=modulus),
            [metrics.score],
        )

    _add(parts, add_task, TRAINING_SPLITS, {split: split for split in EVAL_SPLITS})


def _add_questions(descriptor: Descriptor, form: str, parts: FewShotName) -> None:
    splits = questions.task_splits(descriptor)
    training = {split: splits[split] for split in TRAINING_SPLITS} if "train" in splits else None
    trained = QuestionsSource(descriptor.name, training or splits)
    pool = functools.partial(_question_pool, descriptor, trained, form, parts)

    def add_task(name: str, of_task: dict[str, str]) -> None:
        _add_task(
            name,
            FewShotQuestions(descriptor, of_task, _template(parts)),
            [functools.partial(preprocessors.question, form=form)],
            functools.partial(_add_demonstrations, parts=parts, pool=pool, id_field="id"),
            T5_QUESTIONS,
            functools.partial(postprocess_question, problem=descriptor.problem, form=form),
            questions.metric_fns(descriptor, form),
        )
        if descriptor.labels and form == "answer":
            task_registry.register_labels(name, descriptor.labels)
        if descriptor.problem == "choice" and form == "answer" and "_eval_" in name:
            add_ranked(name)

    _add(parts, add_task, training, {split: part for split, part in splits.items() if split != "train"})


def _add(
    parts: FewShotName,
    add_task: Callable[[str, dict[str, str]], None],
    training: dict[str, str] | None,
    eval_splits: Mapping[str, str],
) -> None:
    """Registers the training task of a name, its evaluation tasks and their mixture."""
    if training is not None:
        add_task(str(dataclasses.replace(parts, eval_split=None)), training)
    eval_tasks = []
    for split, part in eval_splits.items():
        eval_tasks.append(str(dataclasses.replace(parts, eval_split=split)))
        add_task(eval_tasks[-1], {"validation": part, "test": part})
    mixture = str(dataclasses.replace(parts, eval_split=""))
    seqio.MixtureRegistry.remove(mixture)
    if eval_tasks:
        seqio.MixtureRegistry.add(mixture, eval_tasks, default_rate=1.0)


def _add_task(
    name: str,
    source: Any,
    rows: list[Any],
    demonstrate: Callable[..., tf.data.Dataset],
    vocabulary: seqio.Vocabulary,
    postprocess: Callable[..., Any],
    metric_fns: list[Callable[..., dict[str, float]]],
) -> None:
    seqio.TaskRegistry.remove(name)  # importlib.reload registers them again
    seqio.TaskRegistry.add(
        name,
        source=source,
        # No place for an offline cache: how many demonstrations fit depends on the length of inputs.
        preprocessors=[*rows, demonstrate, preprocessors.tokenize, seqio.preprocessors.append_eos],
        output_features={key: seqio.Feature(vocabulary, add_eos=True) for key in ("inputs", "targets")},
        postprocess_fn=postprocess,
        metric_fns=metric_fns,
    )


def _add_demonstrations(
    dataset: tf.data.Dataset,
    output_features: Mapping[str, Any],
    sequence_length: Mapping[str, int | None] | None = None,
    *,
    parts: FewShotName,
    pool: Callable[[], Pool],
    id_field: str,
) -> tf.data.Dataset:
    """Makes the prompts of a name; reads the template and the demonstrations first. Raises UserError.

    seqio.Evaluator, where it chooses the lengths itself, refuses a preprocessor with no default of sequence_length.
    """
    template = few_shot.read_template(_template(parts))
    settings = {"template": template, "shots": parts.shots, "pool": pool(), "seed": parts.seed, "id_field": id_field}
    return few_shot_rows.demonstrate(dataset, output_features, sequence_length, **settings)


def _question_pool(descriptor: Descriptor, source: QuestionsSource, form: str, parts: FewShotName) -> Pool:
    rows = source.num_input_examples("train") if "train" in source.splits else 0
    directory = source.descriptor_file.parent
    return few_shot_pools.question_pool(directory, descriptor, rows or 0, form, parts.shots, parts.seed is not None)


def _template(parts: FewShotName) -> Path:
    directory = Path() if parts.template in few_shot.TEMPLATES else questions.datasets_directory()
    return few_shot.template_file(parts.template, directory)


def _descriptors() -> list[Descriptor]:
    return read_descriptors(questions.datasets_directory())


def _forms(descriptor: Descriptor) -> tuple[str, ...]:
    return forms.FORMS if any(descriptor.explained.values()) else forms.FORMS[:1]


def _config_and_style(variant: str) -> tuple[str, str] | None:
    """Returns the config and the style of a variant of ListOps; None for any other."""
    config, _, style = variant.removeprefix("explained_").rpartition("_")
    if style not in few_shot_names.STYLES:
        return None
    if config in CONFIGS:
        return config, style
    published, _, examples = config.rpartition("_")
    return (f"{published}-{examples}", style) if published in CONFIGS and examples.isdigit() else None


for _config in CONFIGS:
    for _style in few_shot_names.STYLES:
        for _compact in (False, True):
            _register_all(f"explained_{_config}_{_style}", functools.partial(_add_listops, _config, _style), _compact)
register_datasets()
