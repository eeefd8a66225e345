"""Registers the tasks of the experiments that `import tasks` does not."""

import functools
import re
from collections.abc import Callable

import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

import tasks
from experiments import digits, hinted, pointers, steps
from explainft.data.compact_vocabulary import COMPACT
from explainft.data.task_registry import NextInput, register_iterative
from explainft.evaluation import metrics
from explainft.evaluation.targets import postprocess_listops
from explainft.listops.configs import EVAL_SPLITS, UNSEEN
from explainft.listops.expression import Tree, length, parse
from tasks import preprocessors
from tasks.sources import ExplainedListopsSource

Writer = Callable[[Tree, int], tuple[str, str]]  # from a tree and the repetition's index to inputs and targets
MAX_ROUNDS = 100  # no expression of the data has as many operators

for _percent in (2, 10, 50):
    tasks.register_partly_explained("tiny", "medium", _percent)
for _examples in (1000, 3000, 10000, 30000):
    tasks.register(f"tiny-{_examples}")

LEFT_OUT = {  # of the explanations of the style medium
    "lists": r"(smallest|largest) number of \[[^\]]*\] is |add \[[^\]]*\], ",
    "sorting": r"sorted list, \[[^\]]*\], MEDIAN is ",
    "sum": r"sum is [0-9]+, ",
}


def _leave_out(dataset: tf.data.Dataset, part: str) -> tf.data.Dataset:
    return dataset.map(lambda row: {**row, "targets": tf.strings.regex_replace(row["targets"], LEFT_OUT[part], "")})


def _register_without(part: str) -> None:
    for name, splits in {
        f"explained_tiny_without_{part}_compact": tasks.TRAINING_SPLITS,
        f"explained_tiny_without_{part}_eval_validation_compact": {"validation": "validation", "test": "validation"},
        f"explained_tiny_without_{part}_eval_test_compact": {"validation": "test", "test": "test"},
    }.items():
        seqio.TaskRegistry.remove(name)
        seqio.TaskRegistry.add(
            name,
            source=ExplainedListopsSource("tiny", splits),  # pyright: ignore[reportArgumentType] as seqio's own sources
            preprocessors=[
                functools.partial(preprocessors.explain, style="medium"),
                functools.partial(_leave_out, part=part),
                preprocessors.tokenize,
                seqio.CacheDatasetPlaceholder(),
                seqio.preprocessors.append_eos,
            ],
            output_features={key: seqio.Feature(tasks.COMPACT_VOCABULARY) for key in ("inputs", "targets")},
            postprocess_fn=functools.partial(postprocess_listops, style="none"),
            metric_fns=[metrics.score],
        )


for _part in LEFT_OUT:
    _register_without(_part)


def _register_sampled(config: str, split: str) -> None:
    """Registers an evaluation task of training problems, whose sampled solutions a verifier learns from."""
    name = f"explained_{config.replace('-', '_')}_medium_eval_sampled_compact"
    seqio.TaskRegistry.remove(name)
    seqio.TaskRegistry.add(
        name,
        source=ExplainedListopsSource(config, dict.fromkeys(("validation", "test"), split)),  # pyright: ignore[reportArgumentType] as seqio's own sources
        preprocessors=[
            functools.partial(preprocessors.explain, style="medium"),
            preprocessors.tokenize,
            seqio.CacheDatasetPlaceholder(),
            seqio.preprocessors.append_eos,
        ],
        output_features={key: seqio.Feature(tasks.COMPACT_VOCABULARY) for key in ("inputs", "targets")},
        postprocess_fn=functools.partial(postprocess_listops, style="medium", modulus=10),
        metric_fns=[metrics.score],
    )


_register_sampled("tiny", "train[:4%]")  # 3,920 problems
_register_sampled("tiny-3000", "train")


_answer = functools.partial(postprocess_listops, style="none")
_medium = functools.partial(postprocess_listops, style="medium", modulus=10)


def _register_python_task(
    style: str,
    config: str,
    write: Writer,
    extra_ids: int = 0,
    repetitions: Callable[[Tree], int] = lambda tree: 1,
    postprocess: Callable[..., object] = _answer,
    gold: Writer | None = None,
    next_input: NextInput | None = None,
) -> None:
    """Registers tasks of a config with targets made in Python. Training has an expression `repetitions(tree)` times.

    With `next_input` the tasks are iterative, and the gold target of all rounds is what `gold` writes.
    """
    task = f"explained_{config}_{style}"
    _add_python_task(
        f"{task}_compact", config, tasks.TRAINING_SPLITS, write, repetitions, extra_ids, postprocess, next_input
    )
    evaluations = {f"{task}_eval_{split}_compact": split for split in EVAL_SPLITS}
    for name, split in evaluations.items():
        splits = {"validation": split, "test": split}
        _add_python_task(name, config, splits, gold or write, lambda tree: 1, extra_ids, postprocess, next_input)
    seqio.MixtureRegistry.remove(f"{task}_eval_compact")
    seqio.MixtureRegistry.add(f"{task}_eval_compact", list(evaluations), default_rate=1.0)


def _add_python_task(
    name: str,
    config: str,
    splits: dict[str, str],
    write: Writer,
    repetitions: Callable[[Tree], int],
    extra_ids: int,
    postprocess: Callable[..., object],
    next_input: NextInput | None,
) -> None:
    vocabulary = seqio.SentencePieceVocabulary(COMPACT, extra_ids=extra_ids)
    rows = _rows_of(ExplainedListopsSource(config, splits), write, repetitions)
    seqio.TaskRegistry.remove(name)
    seqio.TaskRegistry.add(
        name,
        source=seqio.FunctionDataSource(rows, splits=tuple(splits)),  # pyright: ignore[reportArgumentType]
        preprocessors=[preprocessors.tokenize, seqio.CacheDatasetPlaceholder(), seqio.preprocessors.append_eos],
        output_features={key: seqio.Feature(vocabulary, add_eos=True) for key in ("inputs", "targets")},
        postprocess_fn=postprocess,
        metric_fns=[metrics.score],
    )
    if next_input is not None:
        register_iterative(name, next_input, MAX_ROUNDS)


def _rows_of(source: ExplainedListopsSource, write: Writer, repetitions: Callable[[Tree], int]):
    fields = {"inputs": tf.string, "targets": tf.string, "expression": tf.string, "answer": tf.int64}

    def dataset(split: str, shuffle_files: bool, seed: int | None = None) -> tf.data.Dataset:
        del shuffle_files, seed  # in the order of the data

        def rows():
            for row in tfds.as_numpy(source.get_dataset(split, shuffle=False)):
                tree = parse(row["expression"].decode())
                for index in range(repetitions(tree)):
                    inputs, targets = write(tree, index)
                    yield {
                        "inputs": inputs,
                        "targets": targets,
                        "expression": row["expression"],
                        "answer": row["answer"],
                    }

        return tf.data.Dataset.from_generator(
            rows, output_signature={field: tf.TensorSpec((), dtype) for field, dtype in fields.items()}
        )

    return dataset


def _repetitions_by_length(tree: Tree) -> int:
    """Repeats longer expressions more often: tiny has seven of 9 tokens for one of 24."""
    return max(1, length(tree) // 4 - 1)


_register_python_task(
    "marked", "tiny", pointers.marked, pointers.MARKS + pointers.OPERATOR_MARKS, _repetitions_by_length
)
_register_python_task("marked", "tiny_25_96", pointers.marked, pointers.MARKS + pointers.OPERATOR_MARKS)
_register_python_task("digits", "tiny_gaps", digits.digits)
_register_python_task("hinted", "tiny", hinted.hinted, repetitions=lambda tree: hinted.HINTS, postprocess=_medium)


def _without_unseen_digits(tree: Tree) -> int:
    """Withholds expressions that show an unseen number in inputs or targets, as an intermediate result too.

    Of the others long ones are fewer, and repeated more often.
    """
    shown = {int(number) for text in digits.digits(tree) for number in re.findall("[0-9]{2}", text)}
    return 0 if shown & set(UNSEEN) else _repetitions_by_length(tree)


_register_python_task("unmet_digits", "tiny_gaps", digits.digits, repetitions=_without_unseen_digits)
for _config in ("tiny", "tiny_25_96"):
    _register_python_task(
        "steps",
        _config,
        steps.step,
        repetitions=steps.num_steps,
        postprocess=_medium,
        gold=steps.explanation,
        next_input=steps.next_input,
    )
_register_python_task(
    "far_steps",
    "tiny",
    steps.oversampled_step,
    0,
    steps.num_oversampled_steps,
    postprocess=_medium,
    gold=steps.explanation,
    next_input=steps.next_input,
)


def _has_length_45_to_49(tree: Tree) -> int:
    """Keeps expressions about twice as long as tiny's longest, of which the test split of tiny_25_96 has few."""
    return int(45 <= length(tree) <= 49)


for _style, _next_input in (("steps", steps.next_input), ("again_steps", steps.next_input_or_reject)):
    _add_python_task(  # of the training split, for nothing that tiny trains has more than 24 tokens
        f"explained_tiny_25_96_{_style}_eval_twice_compact",
        "tiny_25_96",
        {"validation": "train[:25%]", "test": "train[:25%]"},
        steps.explanation,
        _has_length_45_to_49,
        0,
        _medium,
        _next_input,
    )
