"""The SeqIO tasks of a multi-task form (explainft.data.multitask), and their rows in plain TensorFlow ops."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import seqio
import tensorflow as tf

from explainft.data import multitask, target_parts, task_registry
from explainft.data.target_parts import ANSWER, CONTEXT, EXPLANATION
from tasks import preprocessors

Example = Mapping[str, Any]
AddTask = Callable[[str, dict[str, str], str, Sequence[str]], None]  # name, splits, form, tasks of the form
PARTS = {multitask.ANSWER: ANSWER, multitask.EXPLANATION: EXPLANATION}


def register(
    prefix: str,
    suffix: str,
    add_task: AddTask,
    training_splits: dict[str, str] | None,
    eval_splits: Mapping[str, str],
    forms: Iterable[str] = multitask.FORMS,
) -> None:
    """Registers, for each form, its tasks for training and evaluation by `add_task`, and their mixtures.

    `training_splits` maps the task's split names to those of the dataset (None: it has no split train), `eval_splits`
    the splits in the names of evaluation tasks.
    """
    for form in forms:
        name, tasks = f"{prefix}_{form}", tuple(multitask.FORMS[form])
        if training_splits is not None:
            add_task(f"{name}{suffix}", training_splits, form, tasks[::-1])
            if len(tasks) > 1:
                apart = {f"{name}_{task}{suffix}": task for task in tasks}
                for task_name, task in apart.items():
                    add_task(task_name, training_splits, form, (task,))
                _add_mixture(f"{name}_mixture{suffix}", list(apart))
        eval_tasks = []
        for task in tasks:
            variant = name if task == multitask.ANSWER else f"{name}_{task}"
            for split, part in eval_splits.items():
                eval_tasks.append(f"{variant}_eval_{split}{suffix}")
                add_task(eval_tasks[-1], {"validation": part, "test": part}, form, (task,))
                if (context := multitask.context(form, task)) is not None:
                    task_registry.register_context(eval_tasks[-1], context)
        _add_mixture(f"{name}_eval{suffix}", eval_tasks)


def _add_mixture(name: str, tasks: Sequence[str]) -> None:
    seqio.MixtureRegistry.remove(name)
    if tasks:
        seqio.MixtureRegistry.add(name, tasks, default_rate=1.0)


def add_task(
    name: str,
    source: Any,
    rows: Callable[..., tf.data.Dataset],
    vocabulary: seqio.Vocabulary,
    postprocess: Callable[..., Any],
    metrics: Sequence[Callable[..., dict[str, float]]],
) -> None:
    """Adds a task with the feature target_parts to SeqIO's registry."""
    seqio.TaskRegistry.remove(name)  # importlib.reload registers them again
    seqio.TaskRegistry.add(
        name,
        source=source,
        preprocessors=[
            rows,
            tokenize_parts,
            seqio.CacheDatasetPlaceholder(),
            # Not append_eos_after_trim: a target that is cut off must not look complete.
            seqio.preprocessors.append_eos,
            preprocessors.append_eos_part,
        ],
        output_features={key: seqio.Feature(vocabulary, add_eos=True) for key in ("inputs", "targets")},
        postprocess_fn=postprocess,
        metric_fns=metrics,
    )


def question_rows(dataset: tf.data.Dataset, form: str, tasks: Sequence[str]) -> tf.data.Dataset:
    """Returns the rows of imported questions for `tasks` of a form, those of a question next to each other.

    A question without an explanation has no row for the explanation task.
    """

    def rows(example: Example) -> tf.data.Dataset:
        texts = preprocessors.question_input(example), example["answer"], example["explanation"]
        fields = {name: example[name] for name in preprocessors.QUESTION_FIELDS}
        return _rows(form, tasks, *texts, seed_text=example["id"], fields=fields)

    return dataset.flat_map(rows)


def listops_rows(dataset: tf.data.Dataset, style: str, form: str, tasks: Sequence[str]) -> tf.data.Dataset:
    """Returns the rows of ListOps expressions, whose explanations are those of the style.

    Where the form's words state the answer, explanations come without their last line, which does.
    """

    def rows(example: Example) -> tf.data.Dataset:
        expression, answer = example["expression"], tf.strings.as_string(example["answer"])
        explanation = tf.constant("")
        if style != "none":
            explanation = example["explanation"][style]
            if "{answer}" in multitask.FORMS[form][multitask.EXPLANATION].target:
                explanation = tf.strings.reduce_join(tf.strings.split(explanation, "\n")[:-1], separator="\n")
        fields = {name: example[name] for name in preprocessors.FIELDS}
        return _rows(form, tasks, expression, answer, explanation, seed_text=expression, fields=fields)

    return dataset.flat_map(rows)


def tokenize_parts(dataset: tf.data.Dataset, output_features: Mapping[str, Any]) -> tf.data.Dataset:
    """Tokenizes as preprocessors.tokenize_spans does, but the joined text: token ids are those of the whole target.

    A span has the tokens that the text up to its end has more than the text up to its start. Spans that begin with a
    space and do not end with one are cut between words.
    """

    vocabulary = output_features["targets"].vocabulary

    def to_tokens(example):
        example = dict(example)
        spans, parts = example.pop("target_spans"), example.pop("span_parts")
        example["inputs_pretokenized"] = example["inputs"]
        example["targets_pretokenized"] = text = tf.strings.reduce_join(spans)
        example["inputs"] = vocabulary.encode_tf(example["inputs"])
        example["targets"] = vocabulary.encode_tf(text)
        # The last one is the text itself, whose tokens are all assigned.
        lengths = tf.cumsum(tf.strings.length(spans))
        beginnings = tf.strings.substr(tf.repeat(text, tf.size(spans)), tf.zeros_like(lengths), lengths)
        ends = tf.minimum(vocabulary.encode_tf(beginnings).row_lengths(), tf.size(example["targets"], tf.int64))
        example[target_parts.TARGET_PARTS] = tf.repeat(parts, ends - tf.concat([[0], ends[:-1]], axis=0))
        return example

    for feature in output_features.values():
        feature.vocabulary.load_model()
    return dataset.map(to_tokens, num_parallel_calls=tf.data.AUTOTUNE)


def permute_words(text: tf.Tensor, seed_text: tf.Tensor) -> tf.Tensor:
    """Returns the words, joined by spaces, in a random order that depends on seed_text alone."""
    words = tf.strings.split(text)
    seed = tf.stack([tf.strings.to_hash_bucket_fast(seed_text, 2**31 - 1), 0])
    order = tf.argsort(tf.random.stateless_uniform(tf.shape(words), seed))
    return tf.strings.reduce_join(tf.gather(words, order), separator=" ")


def _rows(
    form: str,
    tasks: Sequence[str],
    inputs: tf.Tensor,
    answer: tf.Tensor,
    explanation: tf.Tensor,
    *,
    seed_text: tf.Tensor,
    fields: dict[str, tf.Tensor],
) -> tf.data.Dataset:
    if form.endswith(multitask.SHUFFLED):
        explanation = permute_words(explanation, seed_text)
    values = {"{answer}": answer, "{explanation}": explanation}
    made = []
    for task in tasks:
        texts = multitask.FORMS[form][task]
        spans = multitask.spans(texts.target)
        row = {
            "inputs": tf.strings.join([inputs, texts.prompt]),
            "target_spans": tf.stack([_fill(span.text, values) for span in spans]),
            "span_parts": tf.constant([CONTEXT if span.is_context else PARTS[task] for span in spans], tf.int32),
            "task": tf.constant(task),
            **fields,
        }
        rows = tf.data.Dataset.from_tensors(row)
        if task == multitask.EXPLANATION:
            rows = rows.filter(lambda _: explanation != "")
        made.append(rows)
    joined = made[0]
    for rows in made[1:]:
        joined = joined.concatenate(rows)
    return joined


def _fill(text: str, values: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Returns a text in which each field is replaced by its value."""
    return tf.strings.join([values.get(part, part) for part in re.split(r"(\{\w+\})", text)])
