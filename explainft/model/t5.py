"""The T5 encoder-decoder in Flax Linen, with the parameter names of T5X.

Covers the 1.0 family (relu, output layer tied to the embedding) and the 1.1 family (gated-gelu, separate output layer).
Raffel et al. 2020, https://arxiv.org/abs/1910.10683; for the gates Shazeer 2020, https://arxiv.org/abs/2002.05202.

Dimensions in names: B batch, S source length, T target length, D model, V vocabulary.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from explainft.model.config import T5Config
from explainft.model.decoder import Cache, Decoder, output_precision
from explainft.model.encoder import Encoder
from explainft.model.execution import ExecutionConfig
from explainft.model.layers import bfloat16_matmul, decode_matmul, matmul


class T5(nn.Module):
    """Defines a T5 of the sizes of `config`; token 0 is padding and the decoder's first input."""

    config: T5Config
    execution: ExecutionConfig = ExecutionConfig()

    def setup(self):
        cfg = self.config
        self.token_embedder = nn.Embed(cfg.vocab_size, cfg.emb_dim, embedding_init=nn.initializers.normal(1.0))
        self.encoder = Encoder(cfg, self.execution)
        self.decoder = Decoder(cfg, self.execution)

    def __call__(self, *tokens: jax.Array, **options: Any) -> jax.Array:
        """Returns the logits_BTV, float32, of teacher forcing; takes the arguments of `hidden_states`."""
        return self.logits(self.hidden_states(*tokens, **options))

    def hidden_states(
        self,
        encoder_input_tokens: jax.Array,
        decoder_input_tokens: jax.Array,
        decoder_target_tokens: jax.Array,
        encoder_segment_ids: jax.Array | None = None,
        decoder_segment_ids: jax.Array | None = None,
        *,
        deterministic: bool = True,
    ) -> jax.Array:
        """Returns the decoder's final hidden states [B, T, D] under teacher forcing, the input of `logits`.

        Tokens are int32, encoder [B, S] and decoder [B, T]. Without segment ids every row holds one example. A segment
        attends to itself alone, and padding (segment 0) to padding alone. In a row whose inputs have no padding, all
        scores of the targets' padding are NEG_INF: its attention weights are equal, and no loss counts the result.
        """
        if encoder_segment_ids is None:
            encoder_segment_ids = (encoder_input_tokens > 0).astype(jnp.int32)
        if decoder_segment_ids is None:
            decoder_segment_ids = (decoder_target_tokens > 0).astype(jnp.int32)
        encoded_BSD = self.encode(encoder_input_tokens, encoder_segment_ids, deterministic=deterministic)
        cross_mask_BTS = same_segment(decoder_segment_ids, encoder_segment_ids)
        return self.decode(
            encoded_BSD, decoder_input_tokens, decoder_segment_ids, cross_mask_BTS, deterministic=deterministic
        )

    def label_states(
        self,
        encoded_BSD: jax.Array,
        source_mask_BS: jax.Array,
        decoder_input_tokens: jax.Array,
        decoder_segment_ids: jax.Array,
        *,
        deterministic: bool = True,
    ) -> jax.Array:
        """Returns the decoder's final hidden states [B, T, D] of labels, the same [T] for each encoded input.

        The labels stand side by side as segments: each attends to itself and to the whole input. Position biases are
        relative, so a label's states do not depend on its place.
        """
        tokens_BT, segments_BT = (
            jnp.tile(x, (len(encoded_BSD), 1)) for x in (decoder_input_tokens, decoder_segment_ids)
        )
        cross_mask_BTS = (segments_BT > 0)[:, :, None] == source_mask_BS[:, None, :]
        return self.decode(encoded_BSD, tokens_BT, segments_BT, cross_mask_BTS, deterministic=deterministic)

    def decode(
        self,
        encoded_BSD: jax.Array,
        decoder_input_tokens: jax.Array,
        decoder_segment_ids: jax.Array,
        cross_mask_BTS: jax.Array,
        *,
        deterministic: bool = True,
    ) -> jax.Array:
        """Returns the decoder's final hidden states [B, T, D] under teacher forcing; a segment attends to itself."""
        causal_TT = np.tri(decoder_input_tokens.shape[1], dtype=bool)
        self_mask_BTT = same_segment(decoder_segment_ids, decoder_segment_ids) & causal_TT
        return self.decoder(self.embed(decoder_input_tokens), encoded_BSD, self_mask_BTT, cross_mask_BTS, deterministic)

    def embed(self, tokens: jax.Array) -> jax.Array:
        # Rounded after the lookup: the gradient of a token, thousands of times in a batch, is accumulated in float32.
        return self.token_embedder(tokens).astype(self.config.dtype)

    def encode(self, encoder_input_tokens, encoder_segment_ids=None, *, deterministic: bool = True) -> jax.Array:
        """Returns encoded_BSD of int32 tokens [B, S]."""
        if encoder_segment_ids is None:
            encoder_segment_ids = (encoder_input_tokens > 0).astype(jnp.int32)
        mask_BSS = same_segment(encoder_segment_ids, encoder_segment_ids)
        return self.encoder(self.embed(encoder_input_tokens), mask_BSS, deterministic)

    def logits(self, y_BTD: jax.Array) -> jax.Array:
        """Returns logits_BTV, float32, of hidden states; reads the `output_parameters` alone."""
        cfg = self.config
        precision = output_precision(cfg, self.execution)
        y_BTD = y_BTD.astype(jnp.float32)
        if self.has_variable("params", "output"):  # see quantization.py and output_columns
            output = self.get_variable("params", "output")
            if "kernel_FD" in output:
                return decode_matmul(y_BTD, output, "float32", precision)
            return matmul(y_BTD, output["kernel"], "float32", precision)
        if not cfg.logits_via_embedding:
            return self.decoder.logits_dense(y_BTD)
        # The embedding has unit variance: without 1/sqrt(D) the tied logits would grow with the width. The hidden
        # states are scaled, not the logits, which are many more.
        y_BTD /= np.sqrt(cfg.emb_dim)
        if precision == "bfloat16":
            return bfloat16_matmul(y_BTD, self.token_embedder.embedding, True)
        return matmul(y_BTD, self.token_embedder.embedding.T, "float32")

    def init_cache(
        self, encoder_input_tokens: jax.Array, length: int, num_samples: int = 1, capacity: int | None = None
    ) -> Cache:
        """Encodes inputs [B, S] for decoding up to `length` tokens; projects cross keys and values once.

        `num_samples` outputs of each input are decoded, in adjacent rows. `capacity`: how many tokens the cache has
        room for (None: `length`); decoder.grow_cache makes more.
        """
        encoded_BSD = self.encode(encoder_input_tokens)
        source_mask_BS = encoder_input_tokens > 0
        return self.decoder.empty_cache(encoded_BSD, source_mask_BS, length, num_samples, capacity or length)

    def decode_step(self, tokens_B: jax.Array, cache: Cache, position: jax.Array) -> tuple[jax.Array, Cache]:
        """Feeds one token to each row at `position`, 0-based and the same for all; returns logits_BV and the cache."""
        y_B1D, cache = self.decoder.step(self.embed(tokens_B[:, None]), cache, position)
        return self.logits(y_B1D)[:, 0], cache


def same_segment(query_segments_BT: jax.Array, key_segments_BS: jax.Array) -> jax.Array:
    return query_segments_BT[:, :, None] == key_segments_BS[:, None, :]


def output_parameters(config: T5Config, params: Any) -> Any:
    """Returns those of `params` that turn hidden states into logits."""
    if config.logits_via_embedding:
        return {"token_embedder": params["token_embedder"]}
    return {"decoder": {"logits_dense": params["decoder"]["logits_dense"]}}


def output_columns(config: T5Config, output: Any, token_ids_P: np.ndarray) -> Any:
    """Returns the part of the `output_parameters` that makes the logits of these token ids, in their order."""
    if config.logits_via_embedding:
        kernel_DP = output["token_embedder"]["embedding"][token_ids_P].T / np.sqrt(config.emb_dim)
    else:
        kernel_DP = output["decoder"]["logits_dense"]["kernel"][:, token_ids_P]
    return {"output": {"kernel": kernel_DP}}
