"""The pairwise margin loss of verifiers (Liu et al. 2023, section 3.2).

Dimensions in names: P pairs, S source length.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from explainft.core.errors import UserError, nearest, require_at_least_zero
from explainft.data.sample_datasets import LABELS
from explainft.data.vocabulary import EOS_ID, Vocabulary
from explainft.model.labels import Labels, encode_labels, label_log_likelihoods
from explainft.model.loss import Loss, output_layer
from explainft.model.t5 import T5

VERIFIER_LOSSES = ("cross_entropy", "margin")


@dataclasses.dataclass(frozen=True)
class MarginLoss:
    """max(0, log S(incorrect) - log S(correct) + margin) over the pairs of a batch, see batches.PairBatches.

    S = p(correct) / (p(correct) + p(incorrect)) of a solution, where p is the likelihood of the whole label. The first
    solution of a pair is the correct one.
    """

    margin: float = 0.5
    # LABELS as token ids: `for_task` has those of its vocabulary. Before that, as in a plan, they have one token each.
    labels: Labels = Labels(((2, EOS_ID), (3, EOS_ID)))
    output_ids: tuple[int, ...] | None = None
    group: ClassVar[int] = 2

    def __post_init__(self):
        require_at_least_zero(MARGIN=self.margin)

    def pair_labels(self, vocabulary: Vocabulary) -> tuple[tuple[int, ...], ...]:
        """Returns the targets of the two examples of each pair, as token ids."""
        return encode_labels(LABELS, vocabulary).token_ids

    def for_task(self, vocabulary: Vocabulary, output_ids: Sequence[int] | None) -> "MarginLoss":
        """Returns the loss for a task of this vocabulary whose outputs hold the `output_ids` alone (None: all)."""
        ids = None if output_ids is None else (0, *output_ids)
        return dataclasses.replace(self, labels=Labels(self.pair_labels(vocabulary)), output_ids=ids)

    def denominator(self, batch: Mapping[str, jax.Array]) -> jax.Array:
        """Returns the number of pairs of this batch."""
        return jnp.maximum(jnp.sum(batch["decoder_target_tokens"][..., 0] > 0) / 2, 1).astype(jnp.float32)

    def batch_sums(
        self, model: T5, params: Any, batch: Mapping[str, jax.Array], dropout_rng: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        """Sums loss_sum, correct_sum (pairs whose correct solution has the higher score) and weight_sum over pairs."""
        solutions = batch["encoder_input_tokens"].reshape(-1, batch["encoder_input_tokens"].shape[-1])
        output, column_of = output_layer(model.config, params, self.output_ids)
        log_p = label_log_likelihoods(model, params, output, solutions, self.labels, column_of, dropout_rng)
        log_score_P2 = log_scores(log_p).reshape(-1, 2)
        correct_P, incorrect_P = log_score_P2[:, 0], log_score_P2[:, 1]
        weight_P = jnp.all((solutions > 0)[:, 0].reshape(-1, 2), axis=1).astype(jnp.float32)
        loss_P = jnp.maximum(0.0, incorrect_P - correct_P + self.margin)
        return {
            "loss_sum": jnp.sum(loss_P * weight_P),
            "correct_sum": jnp.sum((correct_P > incorrect_P) * weight_P),
            "weight_sum": jnp.sum(weight_P),
        }


AnyLoss = Loss | MarginLoss


def log_scores(log_likelihoods_B2: jax.Array) -> jax.Array:
    """Returns log S [B] of the log-likelihoods of LABELS: the log of p(correct) / (p(correct) + p(incorrect))."""
    return jax.nn.log_sigmoid(log_likelihoods_B2[:, 0] - log_likelihoods_B2[:, 1])


def verifier_loss(name: str, margin: float, cross_entropy: Loss) -> AnyLoss:
    """Returns the loss that VERIFIER_LOSS names: word-level cross entropy, or the margin loss."""
    if name not in VERIFIER_LOSSES:
        known = " or ".join(map(repr, VERIFIER_LOSSES))
        raise UserError(f"VERIFIER_LOSS={name!r} must be {known}{nearest(name, VERIFIER_LOSSES)}")
    return MarginLoss(margin) if name == "margin" else cross_entropy
