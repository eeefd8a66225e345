"""SeqIO tasks over synthetic problems, each with an instruction before its input. `import tasks.base` opens nothing.

    explained_<problem>_<form>               for training: splits train and validation
    explained_<problem>_<form>_eval_<split>  for evaluation: validation, test (both in domain), longer,
                                             larger_numbers, other_modulus or other_operators, as the problem has them
    explained_<problem>_<form>_eval          the mixture of the form's evaluation tasks

    explained_base, explained_base_spans     for training: the forms of tiny, modular, sort and copy, one row of each
                                             at a time; the second with the span corruption of one of these rows too
    base                                     the SeqIO mixture of the training tasks of the same forms, at equal rates
    explained_base_eval_<split>              the mixture of their evaluation tasks on a split
    explained_base_eval                      the mixture of all of them

each on T5's vocabulary, and again with the suffix _compact. Problems are the configs of ListOps, with the forms answer,
explain, step (the first line of the explanation) and check (is a given explanation correct?), modular (arithmetic:
answer, explain and check), sort and copy (answer). The targets of check are labels, whose likelihood is compared.

The rows are made from seeds, see explainft.data.synthetic: no dataset is built.
"""

import functools
from collections.abc import Callable, Iterator, Sequence

import seqio
import tensorflow as tf

from explainft.data import task_registry
from explainft.data.sample_datasets import LABELS
from explainft.data.synthetic import catalog
from explainft.data.synthetic.rows import Row, num_rows
from explainft.evaluation import metrics
from explainft.evaluation.targets import postprocess_sample
from tasks import TRAINING_SPLITS, VOCABULARIES, preprocessors

Rows = Callable[[str], Iterator[Row]]  # of a split of the problem


def register_datasets() -> None:
    """Registers the tasks of all problems."""
    for suffix, vocabulary in VOCABULARIES.items():
        for name, problem in catalog.PROBLEMS.items():
            for form in problem.forms:
                _register(name, form, suffix, vocabulary)
        _register_base(suffix, vocabulary)


def _register(name: str, form: str, suffix: str, vocabulary: seqio.Vocabulary) -> None:
    rows = functools.partial(catalog.rows, name, form)
    prefix = f"explained_{name}_{form}"
    labels = LABELS if form == catalog.CHECK else None
    _add_task(f"{prefix}{suffix}", TRAINING_SPLITS, rows, vocabulary, labels)
    for task, split in _eval_tasks(name, form, suffix).items():
        _add_task(task, {"validation": split, "test": split}, rows, vocabulary, labels)
    _add_mixture(f"{prefix}_eval{suffix}", list(_eval_tasks(name, form, suffix)))


def _register_base(suffix: str, vocabulary: seqio.Vocabulary) -> None:
    evaluations = {
        task: split for name, form in catalog.BASE for task, split in _eval_tasks(name, form, suffix).items()
    }
    for ending in ("", "_spans"):
        rows = functools.partial(catalog.base_rows, spans=bool(ending))
        size = len(catalog.BASE) + bool(ending)
        _add_task(f"explained_base{ending}{suffix}", TRAINING_SPLITS, rows, vocabulary, forms=size)
        _add_mixture(f"explained_base{ending}_eval{suffix}", list(evaluations))
    for split in dict.fromkeys(evaluations.values()):
        _add_mixture(f"explained_base_eval_{split}{suffix}", [t for t, of in evaluations.items() if of == split])
    _add_mixture(f"base{suffix}", [f"explained_{name}_{form}{suffix}" for name, form in catalog.BASE])


def _eval_tasks(name: str, form: str, suffix: str) -> dict[str, str]:
    """Returns the split of each evaluation task of a form."""
    splits = [split for split in catalog.PROBLEMS[name].splits if split != "train"]
    return {f"explained_{name}_{form}_eval_{split}{suffix}": split for split in splits}


def _add_mixture(name: str, tasks: Sequence[str]) -> None:
    seqio.MixtureRegistry.remove(name)
    seqio.MixtureRegistry.add(name, tasks, default_rate=1.0)


def _add_task(
    name: str,
    splits: dict[str, str],
    rows: Rows,
    vocabulary: seqio.Vocabulary,
    labels: Sequence[str] | None = None,
    forms: int = 1,
) -> None:
    """Adds a task of the rows of one form, or of several. `splits` maps its split names to those of the problem."""
    if labels is not None:
        task_registry.register_labels(name, labels)
    seqio.TaskRegistry.remove(name)  # importlib.reload registers them again
    seqio.TaskRegistry.add(
        name,
        source=seqio.FunctionDataSource(  # pyright: ignore[reportArgumentType] as seqio's own sources
            functools.partial(_dataset, splits=splits, rows=rows),
            splits=tuple(splits),
            num_input_examples={split: forms * num_rows(of) for split, of in splits.items()},
        ),
        preprocessors=[preprocessors.tokenize, seqio.CacheDatasetPlaceholder(), seqio.preprocessors.append_eos],
        output_features={key: seqio.Feature(vocabulary, add_eos=True) for key in ("inputs", "targets")},
        postprocess_fn=postprocess_sample,
        metric_fns=[metrics.score] if labels is None else [metrics.score, metrics.label_balance],
    )


def _dataset(
    split: str, shuffle_files: bool, seed: int | None = None, *, splits: dict[str, str], rows: Rows
) -> tf.data.Dataset:
    del shuffle_files, seed  # in the order of the generator
    signature = dict.fromkeys(Row._fields, tf.TensorSpec((), tf.string))
    return tf.data.Dataset.from_generator(
        lambda: (row._asdict() for row in rows(splits[split])), output_signature=signature
    )


register_datasets()
