"""T5 in Hugging Face transformers and in T5X, set up as their users would."""

import dataclasses
import os
from pathlib import Path
from typing import Any


def hugging_face(directory: Path, cores: int, dropout: float = 0.0) -> Any:
    import torch
    from transformers import T5ForConditionalGeneration

    torch.set_num_threads(cores)
    return T5ForConditionalGeneration.from_pretrained(directory, dropout_rate=dropout, dtype=torch.float32).eval()


def configure_dispatch() -> None:
    """Applies JAX_CPU_ENABLE_ASYNC_DISPATCH, which JAX itself does not read."""
    import jax

    jax.config.update("jax_cpu_enable_async_dispatch", os.environ["JAX_CPU_ENABLE_ASYNC_DISPATCH"] == "true")


def t5x(config: Any) -> Any:
    """Returns T5X's model with the Adafactor of its recipes and greedy decoding."""
    import functools

    import seqio
    from t5x import adafactor, decoding, models
    from t5x.examples.t5 import network

    known = {field.name for field in dataclasses.fields(network.T5Config)}
    sizes = {name: value for name, value in dataclasses.asdict(config).items() if name in known}
    vocabulary = seqio.PassThroughVocabulary(config.vocab_size, eos_id=1)
    greedy: Any = functools.partial(decoding.temperature_sample, topk=1)
    rules = adafactor.standard_logical_factor_rules()
    return models.EncoderDecoderModel(
        network.Transformer(network.T5Config(**sizes)),
        vocabulary,
        vocabulary,
        optimizer_def=adafactor.Adafactor(decay_rate=0.8, step_offset=0, logical_factor_rules=rules),
        decode_fn=greedy,
        loss_normalizing_factor="NUM_REAL_TARGET_TOKENS",
    )
