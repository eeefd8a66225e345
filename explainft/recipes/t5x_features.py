"""T5X's features of tasks that mark the parts of their targets: loss weights as the built-in engine's.

SeqIO's converter gives every target token the weight 1 and drops target_parts.
"""

from collections.abc import Mapping
from typing import cast

import seqio
import tensorflow as tf

from explainft.core.errors import UserError
from explainft.data.target_parts import ANSWER, CONTEXT, EXPLANATION, TARGET_PARTS

Spec = seqio.FeatureConverter.FeatureSpec
_PARTS = 3


class TargetPartsConverter(seqio.EncDecFeatureConverter):
    """Converts as seqio.EncDecFeatureConverter does, with the loss weights of target_parts.loss_weights.

    A task without target_parts is converted unchanged. Raises UserError where `alpha` is given for one.
    """

    TASK_FEATURES = {**seqio.EncDecFeatureConverter.TASK_FEATURES, TARGET_PARTS: Spec(dtype=tf.int32)}
    MODEL_FEATURES = {**seqio.EncDecFeatureConverter.MODEL_FEATURES, "decoder_loss_weights": Spec(dtype=tf.float32)}

    def __init__(self, pack: bool = True, alpha: float | None = None, **kwargs):
        super().__init__(pack=pack, **kwargs)
        self._alpha = alpha
        self._unmarked = seqio.EncDecFeatureConverter(pack=pack, **kwargs)
        if alpha is not None and not 0.0 <= alpha <= 1.0:
            raise UserError(f"ALPHA={alpha} must be from 0 to 1, the weight of the answer")

    def __call__(self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]) -> tf.data.Dataset:
        if TARGET_PARTS not in dict(cast(Mapping, ds.element_spec)):
            if self._alpha is not None:
                raise UserError(f"ALPHA={self._alpha} is for tasks that mark answer and explanation; set it to None")
            return self._unmarked(ds, task_feature_lengths)
        # A part is a number from 1 on here: SeqIO's packing takes every 0 for padding.
        shifted = ds.map(lambda example: {**example, TARGET_PARTS: example[TARGET_PARTS] + 1})
        return super().__call__(shifted, {**task_feature_lengths, TARGET_PARTS: task_feature_lengths["targets"]})

    def _convert_example(self, features: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
        converted = dict(super()._convert_example(features))
        parts, targets = features[TARGET_PARTS] - 1, features["targets"]
        segments = features.get("targets_segment_ids", tf.cast(targets > 0, tf.int32))
        converted["decoder_loss_weights"] = self._weights(parts, segments)
        return converted

    def _weights(self, parts: tf.Tensor, segments: tf.Tensor) -> tf.Tensor:
        """Returns the loss weight of each token; `segments` tells the examples of a row apart, 0 is padding."""
        is_target = segments > 0
        if self._alpha is None:
            return tf.cast(is_target & (parts != CONTEXT), tf.float32)
        totals = tf.scatter_nd([[ANSWER], [EXPLANATION]], [self._alpha, 1.0 - self._alpha], [_PARTS])
        keys = tf.where(is_target, _PARTS * segments + parts, 0)
        counts = tf.math.unsorted_segment_sum(tf.ones_like(keys), keys, tf.reduce_max(keys) + 1)
        shares = tf.gather(totals, tf.where(is_target, parts, CONTEXT)) / tf.cast(tf.gather(counts, keys), tf.float32)
        return tf.cast(shares, tf.float32)
