"""The likelihood of a few whole labels for each input, EOS included, without decoding.

Dimensions in names: B inputs, S their length, P that of prefixes, L labels, T tokens of all labels side by side, or of
one after a prefix, N tokens of one label.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from explainft.core.errors import UserError
from explainft.data.vocabulary import EOS_ID, Vocabulary
from explainft.model.loss import target_logits
from explainft.model.t5 import T5
from explainft.problems.text import first_equal

MAX_TOKENS = 64  # of the labels that are decoded side by side, whose logits exist at once
LENGTH_MULTIPLE = 2  # of the tokens of all labels: cuDNN attention takes no odd number


@dataclasses.dataclass(frozen=True)
class Labels:
    """Labels as token ids, each with EOS at its end, laid out side by side as segments of one row."""

    token_ids: tuple[tuple[int, ...], ...]

    @property
    def lengths(self) -> np.ndarray:
        return np.array([len(ids) for ids in self.token_ids])

    def split(self, max_tokens: int) -> Iterator["Labels"]:
        """Yields the labels in their order, as many at once as have `max_tokens` together, at least one."""
        part: list[tuple[int, ...]] = []
        for ids in self.token_ids:
            if part and sum(map(len, part)) + len(ids) > max_tokens:
                yield Labels(tuple(part))
                part = []
            part.append(ids)
        yield Labels(tuple(part))

    def row(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns decoder inputs, targets and segment ids [T]; padding has segment 0."""
        targets = np.concatenate(self.token_ids).astype(np.int32)
        segments = np.repeat(np.arange(1, len(self.token_ids) + 1), self.lengths).astype(np.int32)
        shifted = np.roll(targets, 1)
        shifted[np.cumsum(self.lengths) - self.lengths] = 0
        padding = (0, -len(targets) % LENGTH_MULTIPLE)
        inputs, targets, segments = (np.pad(x, padding) for x in (shifted, targets, segments))
        return inputs, targets, segments


def encode_labels(texts: Sequence[str], vocabulary: Vocabulary) -> Labels:
    """Returns labels as token ids. Raises UserError for an empty or repeated one, and for what cannot be written."""
    encoded = [tuple(vocabulary.encode(text)) for text in texts]
    for text, ids in zip(texts, encoded, strict=True):
        if not text.strip() or not ids:
            raise UserError(f"label {text!r} is empty; give texts, such as --labels yes,no")
        if vocabulary.unknown_id in ids:
            raise UserError(f"label {text!r} holds a token that the vocabulary cannot write; choose another label")
        if encoded.count(ids) > 1:
            raise UserError(f"label {text!r} is given twice; remove one")
    if (equal := first_equal(texts)) is not None:
        raise UserError(f"labels {equal[0]!r} and {equal[1]!r} are equal after normalization; remove one")
    return Labels(tuple((*ids, EOS_ID) for ids in encoded))


def label_log_likelihoods(
    model: T5,
    params: Any,
    output: Any,
    encoder_input_tokens: jax.Array,
    labels: Labels,
    column_of: np.ndarray | None = None,
    dropout_rng: jax.Array | None = None,
    prefix_tokens: jax.Array | None = None,
) -> jax.Array:
    """Returns log p(label | input) [B, L], float32, summed over the tokens of a label; inputs [B, S] are zero-padded.

    Each input is encoded once. `output`: the parameters of the output layer, and `column_of` each token id's column in
    it (None: the id). `prefix_tokens` [B, P], zero-padded, are what the decoder reads before the label.
    """

    def apply(params: Any, method: Any, *args: Any) -> Any:
        rngs = None if dropout_rng is None else {"dropout": dropout_rng}
        return model.apply({"params": params}, *args, deterministic=dropout_rng is None, rngs=rngs, method=method)

    def log_p(y_BTD: Any, targets_T: np.ndarray) -> jax.Array:
        return _log_p(model, output, y_BTD, jnp.tile(targets_T, (len(encoder_input_tokens), 1)), column_of)

    encoded_BSD, source_mask_BS = apply(params, T5.encode, encoder_input_tokens), encoder_input_tokens > 0
    found = []
    if prefix_tokens is not None:
        for token_ids in labels.token_ids:
            label_N = np.array(token_ids, np.int32)
            inputs_BT, segments_BT, label_at_BN = _after_prefix(prefix_tokens, label_N)
            cross_mask_BTS = (segments_BT > 0)[:, :, None] & source_mask_BS[:, None, :]
            y_BTD = apply(params, T5.decode, encoded_BSD, inputs_BT, segments_BT, cross_mask_BTS)
            y_BND = jnp.take_along_axis(y_BTD, label_at_BN[..., None], axis=1)
            found.append(jnp.sum(log_p(y_BND, label_N), axis=1, keepdims=True))
        return jnp.concatenate(found, axis=1)
    for part in labels.split(MAX_TOKENS):
        inputs_T, targets_T, segments_T = part.row()
        y_BTD = apply(params, T5.label_states, encoded_BSD, source_mask_BS, inputs_T, segments_T)
        label_TL = (segments_T[:, None] == np.arange(1, len(part.token_ids) + 1)).astype(np.float32)
        found.append(jnp.einsum("bt,tl->bl", log_p(y_BTD, targets_T), label_TL, precision="highest"))
    return jnp.concatenate(found, axis=1)


def own_label_log_likelihoods(
    model: T5,
    params: Any,
    encoder_input_tokens: jax.Array,
    decoder_input_tokens: jax.Array,
    decoder_target_tokens: jax.Array,
    decoder_segment_ids: jax.Array,
    num_labels: int,
    column_of: np.ndarray | None = None,
) -> jax.Array:
    """Returns log p(label | input) [B, L], float32, of labels that differ from input to input, at most `num_labels`.

    The decoder's tokens and segment ids [B, T] are those of `Labels.row`, zero-padded. A label that an input does not
    have gets 0.
    """
    source_mask_BS = encoder_input_tokens > 0
    encoded_BSD = model.apply({"params": params}, encoder_input_tokens, method=T5.encode)
    cross_mask_BTS = (decoder_segment_ids > 0)[:, :, None] & source_mask_BS[:, None, :]
    arguments = encoded_BSD, decoder_input_tokens, decoder_segment_ids, cross_mask_BTS
    y_BTD = model.apply({"params": params}, *arguments, method=T5.decode)
    log_p_BT = _log_p(model, params, y_BTD, decoder_target_tokens, column_of)
    label_BTL = (decoder_segment_ids[:, :, None] == np.arange(1, num_labels + 1)).astype(jnp.float32)
    return jnp.einsum("bt,btl->bl", log_p_BT, label_BTL, precision="highest")


def _log_p(model: T5, output: Any, y_BTD: Any, targets_BT: jax.Array, column_of: np.ndarray | None) -> jax.Array:
    """Returns the log-probability of each target token [B, T] after hidden states."""
    logits_BTV: Any = model.apply({"params": output}, y_BTD, method=T5.logits)
    columns_BT = targets_BT if column_of is None else jnp.asarray(column_of)[targets_BT]
    return target_logits(logits_BTV, columns_BT) - jax.nn.logsumexp(logits_BTV, axis=-1)


def _after_prefix(prefix_BP: jax.Array, label_N: np.ndarray) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns decoder inputs and segment ids [B, P + N] of prefix and label, and the positions [B, N] of the label."""
    P, N = prefix_BP.shape[1], len(label_N)
    length_B1 = jnp.sum(prefix_BP > 0, axis=1, keepdims=True)
    place_BT = jnp.arange(P + N) - length_B1  # in the label
    label_BT = jnp.where((place_BT >= 0) & (place_BT < N), jnp.asarray(label_N)[jnp.clip(place_BT, 0, N - 1)], 0)
    targets_BT = jnp.pad(prefix_BP, ((0, 0), (0, N))) + label_BT
    inputs_BT = jnp.pad(targets_BT[:, :-1], ((0, 0), (1, 0)))
    return inputs_BT, (targets_BT > 0).astype(jnp.int32), length_B1 + jnp.arange(N)
