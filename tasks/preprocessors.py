"""From a record of explained_listops to inputs and targets, in plain TensorFlow ops."""

from collections.abc import Mapping
from typing import Any

import seqio
import tensorflow as tf

# Kept beside inputs and targets: seqio writes them next to each prediction, and the metrics read the first two.
FIELDS = ("expression", "answer", "length", "depth", "operators")


def explain(dataset: tf.data.Dataset, style: str, percent: int = 100) -> tf.data.Dataset:
    """inputs: the expression. targets: its explanation in the style, or the answer alone for the style "none".

    Of the examples `percent` are explained, which of them the expressions decide; the others have the answer alone.
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


def shuffle_steps(explanation: tf.Tensor, seed_text: tf.Tensor) -> tf.Tensor:
    """The same lines with all but the last in an order that seed_text alone decides; any order, so also the first."""
    lines = tf.strings.split(explanation, "\n")
    seed = tf.stack([tf.strings.to_hash_bucket_fast(seed_text, 2**31 - 1), 0])
    order = tf.argsort(tf.random.stateless_uniform(tf.shape(lines[:-1]), seed))
    return tf.strings.reduce_join(tf.concat([tf.gather(lines, order), lines[-1:]], axis=0), separator="\n")


def tokenize(dataset: tf.data.Dataset, output_features: Mapping[str, Any]) -> tf.data.Dataset:
    """seqio's, but an unreadable vocabulary raises here: inside of map its error would lose type and shape."""
    for feature in output_features.values():
        feature.vocabulary.load_model()
    return seqio.preprocessors.tokenize(dataset, output_features)
