"""The losses of verifiers on the score of a solution (Liu et al. 2023, section 3.2).

S = p(correct) / (p(correct) + p(incorrect)) is the score, where p is the likelihood of the whole label.

Dimensions in names: B solutions, P pairs, S source length, T target length, N tokens of a label.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np

from explainft.core.errors import UserError, nearest, require_at_least_zero
from explainft.data.sample_datasets import LABELS
from explainft.data.vocabulary import EOS_ID, Vocabulary
from explainft.model.labels import Labels, encode_labels, label_log_likelihoods
from explainft.model.loss import LOSS_WEIGHTS, Loss, output_layer
from explainft.model.t5 import T5

VERIFIER_LOSSES = ("cross_entropy", "binary", "margin")


@dataclasses.dataclass(frozen=True)
class _ScoreLoss:
    """A loss of the scores of solutions, one in each row of a batch, whose targets end with one of LABELS."""

    # LABELS as token ids: `for_task` has those of its vocabulary. Before that, as in a plan, they have one token each.
    labels: Labels = Labels(((2, EOS_ID), (3, EOS_ID)))
    output_ids: tuple[int, ...] | None = None
    decoder_passes: ClassVar[int] = len(LABELS)  # a solution before the label is decoded with each

    def label_ids(self, vocabulary: Vocabulary) -> tuple[tuple[int, ...], ...]:
        """Returns the labels that targets end with, as token ids."""
        return encode_labels(LABELS, vocabulary).token_ids

    def for_task(self, vocabulary: Vocabulary, output_ids: Sequence[int] | None) -> Self:
        """Returns the loss for a task of this vocabulary whose outputs hold the `output_ids` alone (None: all)."""
        ids = None if output_ids is None else (0, *output_ids)
        return dataclasses.replace(self, labels=Labels(self.label_ids(vocabulary)), output_ids=ids)

    def log_odds(
        self, model: T5, params: Any, batch: Mapping[str, jax.Array], dropout_rng: jax.Array | None
    ) -> jax.Array:
        """Returns log S - log(1 - S) [B] of the solutions of a batch."""
        rows = {name: feature.reshape(-1, feature.shape[-1]) for name, feature in batch.items()}
        most = rows["decoder_target_tokens"].shape[1] - min(self.labels.lengths)
        prefix = _prefix(rows)[:, :most] if LOSS_WEIGHTS in rows else None
        output, column_of = output_layer(model.config, params, self.output_ids)
        solutions = rows["encoder_input_tokens"]
        log_p = label_log_likelihoods(model, params, output, solutions, self.labels, column_of, dropout_rng, prefix)
        return log_p[:, 0] - log_p[:, 1]


@dataclasses.dataclass(frozen=True)
class BinaryLoss(_ScoreLoss):
    """-log S of a correct solution, -log(1 - S) of an incorrect one."""

    group: ClassVar[int] = 1

    def denominator(self, batch: Mapping[str, jax.Array]) -> jax.Array:
        """Returns the number of solutions of this batch."""
        return jnp.maximum(jnp.sum(batch["decoder_target_tokens"][:, 0] > 0), 1).astype(jnp.float32)

    def batch_sums(
        self, model: T5, params: Any, batch: Mapping[str, jax.Array], dropout_rng: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        """Sums loss_sum, correct_sum (solutions whose label is the more probable) and weight_sum over solutions."""
        log_odds_B = self.log_odds(model, params, batch, dropout_rng)
        signed_B = jnp.where(self._is_correct(batch), log_odds_B, -log_odds_B)
        weight_B = (batch["decoder_target_tokens"][:, 0] > 0).astype(jnp.float32)
        return {
            "loss_sum": jnp.sum(jax.nn.softplus(-signed_B) * weight_B),
            "correct_sum": jnp.sum((signed_B > 0) * weight_B),
            "weight_sum": jnp.sum(weight_B),
        }

    def _is_correct(self, batch: Mapping[str, jax.Array]) -> jax.Array:
        """Returns whether the label of each row is the first one [B]."""
        label_N = np.array(self.labels.token_ids[0])
        place_BN = jnp.sum(_prefix(batch) > 0, axis=1, keepdims=True) + np.arange(len(label_N))
        found_BN = jnp.take_along_axis(batch["decoder_target_tokens"], place_BN, axis=1, mode="clip")
        return jnp.all(found_BN == label_N, axis=1)


@dataclasses.dataclass(frozen=True)
class MarginLoss(_ScoreLoss):
    """max(0, log S(incorrect) - log S(correct) + margin) over the pairs of a batch, see batches.PairBatches.

    The first solution of a pair is the correct one.
    """

    margin: float = 0.5
    group: ClassVar[int] = 2

    def __post_init__(self):
        require_at_least_zero(MARGIN=self.margin)

    def denominator(self, batch: Mapping[str, jax.Array]) -> jax.Array:
        """Returns the number of pairs of this batch."""
        return jnp.maximum(jnp.sum(batch["decoder_target_tokens"][..., 0] > 0) / 2, 1).astype(jnp.float32)

    def batch_sums(
        self, model: T5, params: Any, batch: Mapping[str, jax.Array], dropout_rng: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        """Sums loss_sum, correct_sum (pairs whose correct solution has the higher score) and weight_sum over pairs."""
        log_score_P2 = jax.nn.log_sigmoid(self.log_odds(model, params, batch, dropout_rng)).reshape(-1, 2)
        correct_P, incorrect_P = log_score_P2[:, 0], log_score_P2[:, 1]
        weight_P = jnp.all(batch["decoder_target_tokens"][..., 0] > 0, axis=1).astype(jnp.float32)
        loss_P = jnp.maximum(0.0, incorrect_P - correct_P + self.margin)
        return {
            "loss_sum": jnp.sum(loss_P * weight_P),
            "correct_sum": jnp.sum((correct_P > incorrect_P) * weight_P),
            "weight_sum": jnp.sum(weight_P),
        }


def _prefix(batch: Mapping[str, jax.Array]) -> jax.Array:
    """Returns the tokens [B, T] that the decoder reads before the label, which have no loss; zeros elsewhere."""
    targets_BT = batch["decoder_target_tokens"]
    return jnp.where(batch[LOSS_WEIGHTS] == 0, targets_BT, 0) if LOSS_WEIGHTS in batch else jnp.zeros_like(targets_BT)


AnyLoss = Loss | BinaryLoss | MarginLoss


def verifier_loss(name: str, margin: float, cross_entropy: Loss) -> AnyLoss:
    """Returns the loss that VERIFIER_LOSS names: word-level cross entropy, or one of the score."""
    if name not in VERIFIER_LOSSES:
        *others, last = map(repr, VERIFIER_LOSSES)
        known = f"{', '.join(others)} or {last}"
        raise UserError(f"VERIFIER_LOSS={name!r} must be {known}{nearest(name, VERIFIER_LOSSES)}")
    return {"cross_entropy": cross_entropy, "binary": BinaryLoss(), "margin": MarginLoss(margin=margin)}[name]
