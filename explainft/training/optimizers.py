"""Optimizers and learning-rate schedules: optax, with T5X's names for the settings.

The schedules are written out: optax.join_schedules of the same parts differs by up to 394 units in the last place, and
the recorded results would not be reproduced bit for bit.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from explainft.core.errors import UserError, nearest, require_at_least_zero

SCHEDULES = ("constant", "rsqrt", "cosine")


def learning_rate(
    schedule: str, base_learning_rate: float, warmup_steps: int, train_steps: int
) -> Callable[[jax.typing.ArrayLike], jax.Array]:
    """Returns the learning rate of step k (from k = 0): a linear warm-up to the base rate, then the schedule.

    "constant" stays there; "rsqrt" falls as sqrt(warmup_steps / k), T5X's rsqrt_normalized_decay; "cosine" falls
    to 0 at the end.
    """
    if schedule not in SCHEDULES:
        raise UserError(f"SCHEDULE={schedule!r} is unknown{nearest(schedule, SCHEDULES)}")
    require_at_least_zero(LEARNING_RATE=base_learning_rate, WARMUP_STEPS=warmup_steps)
    if schedule == "cosine" and warmup_steps >= train_steps:
        raise UserError(
            f"WARMUP_STEPS={warmup_steps} leaves nothing of TRAIN_STEPS={train_steps} to the cosine; lower it"
        )

    def rate(step: jax.typing.ArrayLike) -> jax.Array:
        step = jnp.asarray(step, jnp.float32)
        warmup = jnp.minimum(1.0, (step + 1) / max(warmup_steps, 1))
        if schedule == "rsqrt":
            return (
                base_learning_rate
                * warmup
                * jnp.sqrt(max(warmup_steps, 1) / jnp.maximum(step + 1, max(warmup_steps, 1)))
            )
        if schedule == "cosine":
            progress = jnp.clip((step - warmup_steps) / (train_steps - warmup_steps), 0.0, 1.0)
            return base_learning_rate * warmup * 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
        return base_learning_rate * warmup

    return rate


def adamw(
    learning_rate: optax.Schedule,
    b1: float = 0.9,
    b2: float = 0.98,
    weight_decay: float = 0.0,
    clip_norm: float | None = 1.0,
) -> optax.GradientTransformation:
    """Returns AdamW after clipping by the global norm: for training from scratch."""
    return _clipped(clip_norm, optax.adamw(learning_rate, b1=b1, b2=b2, eps=1e-9, weight_decay=weight_decay))


def adafactor(
    learning_rate: optax.Schedule, decay_rate: float = 0.8, step_offset: int = 0, clip_norm: float | None = None
) -> optax.GradientTransformation:
    """Returns Adafactor with T5X's settings: steps relative to each parameter's scale (Shazeer and Stern 2018)."""
    tx = optax.adafactor(
        learning_rate, decay_rate=decay_rate, decay_offset=step_offset, multiply_by_parameter_scale=True
    )
    return _clipped(clip_norm, tx)


def _clipped(clip_norm: float | None, tx: optax.GradientTransformation) -> optax.GradientTransformation:
    if clip_norm is not None and (not isinstance(clip_norm, int | float) or not clip_norm > 0):
        raise UserError(f"CLIP_NORM={clip_norm} must be above 0; None clips nothing")
    return tx if clip_norm is None else optax.chain(optax.clip_by_global_norm(clip_norm), tx)
