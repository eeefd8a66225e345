"""Schedules at hand-computed points, and the optimizers against their papers' first step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from explainft.core.errors import UserError
from explainft.training import optimizers


def rates(schedule, steps, warmup=10, total=110):
    rate = optimizers.learning_rate(schedule, 2.0, warmup, total)
    return [float(rate(step)) for step in steps]


def test_warm_up_is_linear_and_reaches_the_base_at_its_last_step():
    for schedule in optimizers.SCHEDULES:
        assert rates(schedule, [0, 4, 9]) == pytest.approx([0.2, 1.0, 2.0], rel=1e-6)


def test_constant():
    assert rates("constant", [10, 5000]) == [2.0, 2.0]


def test_inverse_square_root():
    assert rates("rsqrt", [9, 39, 159]) == pytest.approx([2.0, 1.0, 0.5])


def test_cosine_ends_at_zero():
    assert rates("cosine", [10, 60, 110]) == pytest.approx([2.0, 1.0, 0.0], abs=1e-6)


def test_without_warm_up_the_first_step_has_the_full_rate():
    for schedule in optimizers.SCHEDULES:
        assert rates(schedule, [0], warmup=0) == [2.0]


def test_schedule_mistakes():
    with pytest.raises(UserError, match="SCHEDULE='cosin'.*did you mean 'cosine'"):
        optimizers.learning_rate("cosin", 1.0, 0, 10)
    with pytest.raises(UserError, match="WARMUP_STEPS=10 leaves nothing of TRAIN_STEPS=10"):
        optimizers.learning_rate("cosine", 1.0, 10, 10)


def one_update(tx, params, grads):
    updates, _ = tx.update(grads, tx.init(params), params)
    return optax.apply_updates(params, updates)


def test_adamw_clips_by_the_global_norm_and_decays_the_weights():
    params, grads = {"w": jnp.array([3.0, -1.0])}, {"w": jnp.array([300.0, 400.0])}
    new = one_update(optimizers.adamw(lambda _: 0.1, weight_decay=0.5, clip_norm=1.0), params, grads)
    # Adam's first step is the sign of the gradient, whatever its size; decay adds 0.1 * 0.5 * w.
    np.testing.assert_allclose(new["w"], [3.0 - 0.1 - 0.15, -1.0 - 0.1 + 0.05], rtol=1e-5)
    tx = optimizers.adamw(lambda _: 0.1, clip_norm=1.0)
    _, state = tx.update(grads, tx.init(params), params)
    first_moment = next(s.mu["w"] for s in _states(state) if hasattr(s, "mu"))
    np.testing.assert_allclose(first_moment, 0.1 * np.array([0.6, 0.8]), rtol=1e-5)


def _states(state):
    if isinstance(state, tuple) and not hasattr(state, "_fields"):
        for inner in state:
            yield from _states(inner)
    else:
        yield state


def test_adafactor_is_its_algorithm_over_several_steps():
    """Shazeer and Stern 2018, algorithms 4 and 5, in numpy: factored moments, clipped updates, relative steps."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=(130, 140))
    tx, params = optimizers.adafactor(lambda _: 0.05), {"w": jnp.asarray(w, jnp.float32)}
    state, rows, columns = tx.init(params), np.zeros(130), np.zeros(140)
    for t in range(1, 6):
        g = rng.normal(size=w.shape) * 10.0**-t
        decay = 1 - t**-0.8
        squares = g**2 + 1e-30
        rows = decay * rows + (1 - decay) * squares.mean(axis=1)
        columns = decay * columns + (1 - decay) * squares.mean(axis=0)
        update = g / np.sqrt(np.outer(rows, columns) / rows.mean())
        update /= max(1.0, np.sqrt((update**2).mean()))
        w = w - 0.05 * max(1e-3, np.sqrt((w**2).mean())) * update
        updates, state = tx.update({"w": jnp.asarray(g, jnp.float32)}, state, params)
        params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(params["w"], w, atol=2e-5)


def test_adafactor_steps_relative_to_the_scale_of_the_parameter():
    # Shazeer and Stern 2018, algorithm 4: the first update is sign(g) * max(1e-3, rms(w)) * rate, for equal gradients.
    params, grads = {"w": jnp.full((200, 150), 0.5)}, {"w": jnp.full((200, 150), 7.0)}
    new = one_update(optimizers.adafactor(lambda _: 0.1), params, grads)
    np.testing.assert_allclose(new["w"], 0.5 - 0.1 * 0.5, rtol=1e-4)
    # Factored: a row and a column of statistics, not a matrix.
    sizes = {x.size for x in jax.tree.leaves(optimizers.adafactor(lambda _: 0.1).init(params))}
    assert 200 * 150 not in sizes and {200, 150} <= sizes
