"""Makes inputs and targets of a record of explained_listops, in plain TensorFlow ops."""

from collections.abc import Mapping
from typing import Any

import seqio
import tensorflow as tf

from explainft.data.questions import forms
from explainft.data.target_parts import ANSWER, CONTEXT, TARGET_PARTS

# Kept beside inputs and targets: seqio writes them next to each prediction, and the metrics read the first two.
FIELDS = ("expression", "answer", "length", "depth", "operators")


def explain(dataset: tf.data.Dataset, style: str, percent: int = 100) -> tf.data.Dataset:
    """Returns inputs, the expression, and targets, its explanation in the style or the answer alone for "none".

    `percent` of the examples are explained, chosen by a hash of the expression; the others have the answer alone.
    """

    def to_text(example):
        answer = tf.strings.as_string(example["answer"])
        if style == "none":
            targets = answer
        elif style == "shuffled":
            targets = shuffle_steps(example["explanation"]["medium"], seed_text=example["expression"])
        else:
            targets = example["explanation"][style]
        if percent < 100:
            bucket = tf.strings.to_hash_bucket_fast(tf.strings.join(["explained", example["expression"]]), 100)
            targets = tf.where(bucket < percent, targets, answer)
        return {"inputs": example["expression"], "targets": targets, **{field: example[field] for field in FIELDS}}

    return dataset.map(to_text, num_parallel_calls=tf.data.AUTOTUNE)


# Of an imported question; written next to each prediction, and read by metrics.
QUESTION_FIELDS = ("id", "question", "choices", "answer", "explanation", "fields")


def question(dataset: tf.data.Dataset, form: str) -> tf.data.Dataset:
    """Returns inputs and targets of imported questions, as explainft.data.questions.forms makes them."""

    def to_text(example):
        explanation = example["explanation"]
        statement = tf.strings.join([forms.STATEMENT, example["answer"]])
        if form == "answer":
            targets = example["answer"]
        else:
            parts = [explanation, statement] if form == "explain_answer" else [statement, explanation]
            targets = tf.where(explanation == "", statement, tf.strings.join(parts, separator="\n"))
        fields = {field: example[field] for field in QUESTION_FIELDS}
        return {"inputs": question_input(example), "targets": targets, **fields}

    return dataset.map(to_text, num_parallel_calls=tf.data.AUTOTUNE)


def question_input(example: Mapping[str, Any]) -> tf.Tensor:
    """Returns the question with a line for each choice, as forms.input_text does."""
    choices = example["choices"]
    place = tf.range(tf.size(choices))
    letters = tf.gather([forms.letter(i)[1] for i in range(26)], tf.minimum(place, 25))
    marks = tf.where(place < 26, letters, tf.strings.as_string(place + 1))
    lines = tf.strings.join(["\n(", marks, ") ", choices])
    return tf.strings.join([example["question"], tf.strings.reduce_join(lines)])


def shuffle_steps(explanation: tf.Tensor, seed_text: tf.Tensor) -> tf.Tensor:
    """Returns the lines, all but the last in a random order that depends on seed_text alone."""
    lines = tf.strings.split(explanation, "\n")
    seed = tf.stack([tf.strings.to_hash_bucket_fast(seed_text, 2**31 - 1), 0])
    order = tf.argsort(tf.random.stateless_uniform(tf.shape(lines[:-1]), seed))
    return tf.strings.reduce_join(tf.concat([tf.gather(lines, order), lines[-1:]], axis=0), separator="\n")


def tokenize(dataset: tf.data.Dataset, output_features: Mapping[str, Any]) -> tf.data.Dataset:
    """Tokenizes as seqio does. An unreadable vocabulary raises here: inside of map its error would lose its type."""
    for feature in output_features.values():
        feature.vocabulary.load_model()
    return seqio.preprocessors.tokenize(dataset, output_features)


def split_prefix(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Makes the spans of targets that follow a prefix: it is context, on a line of its own, and they are answers."""

    def to_spans(example):
        example = dict(example)
        prefix, targets = example["prefix"], example.pop("targets")
        line = tf.where(prefix == "", "", tf.strings.join([prefix, "\n"]))
        return {**example, "target_spans": tf.stack([line, targets]), "span_parts": [CONTEXT, ANSWER]}

    return dataset.map(to_spans, num_parallel_calls=tf.data.AUTOTUNE)


def split_steps(dataset: tf.data.Dataset, steps: int) -> tf.data.Dataset:
    """Makes the spans of targets whose prefix has a label after each line, see sample_datasets.prefix_spans.

    `steps` is the part that those labels belong to: ANSWER, or CONTEXT where the last label alone counts.
    """

    def to_spans(example):
        example = dict(example)
        lines, targets = tf.strings.split(example["prefix"], "\n"), example.pop("targets")
        place = tf.range(tf.size(lines))
        is_label = place % 2 == 1
        separated = tf.strings.join([tf.where(place == 0, "", "\n"), lines, "\n"])
        spans = tf.where(is_label | (example["prefix"] == ""), lines, separated)
        parts = tf.where(is_label, steps, CONTEXT)
        return {
            **example,
            "target_spans": tf.concat([spans, [targets]], axis=0),
            "span_parts": tf.concat([parts, [ANSWER]], axis=0),
        }

    return dataset.map(to_spans, num_parallel_calls=tf.data.AUTOTUNE)


def tokenize_spans(dataset: tf.data.Dataset, output_features: Mapping[str, Any]) -> tf.data.Dataset:
    """Tokenizes targets span by span and adds target_parts, see explainft.data.target_parts.

    An example has `inputs`, `target_spans`, which joined are the target, and `span_parts`, the part that each belongs
    to. Spans are tokenized alone, as scoring tokenizes a label: within a text, its tokens may differ.
    """

    vocabulary = output_features["targets"].vocabulary

    def to_tokens(example):
        example = dict(example)
        spans, parts = example.pop("target_spans"), example.pop("span_parts")
        tokens_of_spans = vocabulary.encode_tf(spans)
        example["inputs_pretokenized"] = example["inputs"]
        example["targets_pretokenized"] = tf.strings.reduce_join(spans)
        example["inputs"] = vocabulary.encode_tf(example["inputs"])
        example["targets"] = tokens_of_spans.flat_values
        example[TARGET_PARTS] = tf.repeat(parts, tokens_of_spans.row_lengths())
        return example

    for feature in output_features.values():
        feature.vocabulary.load_model()
    return dataset.map(to_tokens, num_parallel_calls=tf.data.AUTOTUNE)


def append_eos_part(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Lets the tokens at a target's end that have no part yet, which is EOS, belong to the last token's part."""

    def extend(example):
        parts = example[TARGET_PARTS]
        missing = tf.size(example["targets"]) - tf.size(parts)
        return {**example, TARGET_PARTS: tf.concat([parts, tf.repeat(parts[-1:], missing)], axis=0)}

    return dataset.map(extend, num_parallel_calls=tf.data.AUTOTUNE)
