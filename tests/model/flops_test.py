"""FLOPs counted in jaxprs, against counts by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from explainft.model.flops import matmul_flops


def test_matmul_flops_of_loops_and_remat():
    x = jax.ShapeDtypeStruct((8, 16), jnp.float32)
    w = jax.ShapeDtypeStruct((16, 16), jnp.float32)
    one = 2 * 8 * 16 * 16
    assert matmul_flops(lambda x, w: x @ w, x, w) == one

    def layers(x, w):
        return jax.lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, None, length=5)[0]

    assert matmul_flops(layers, x, w) == 5 * one
    loss = jax.grad(lambda w, x: layers(x, w).sum())
    assert matmul_flops(loss, w, x) == 3 * 5 * one  # forward, and two matmuls backward

    def once(x, w):
        return jnp.sin(jnp.sin(x @ w) @ w).sum()

    remat = jax.grad(jax.checkpoint(once, policy=jax.checkpoint_policies.nothing_saveable), argnums=(0, 1))
    plain = jax.grad(once, argnums=(0, 1))
    assert matmul_flops(plain, x, w) == 6 * one
    assert matmul_flops(remat, x, w) > matmul_flops(plain, x, w)

    def until(x):
        return jax.lax.while_loop(
            lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] @ np.ones((16, 16), np.float32)), (0, x)
        )

    assert matmul_flops(until, x, while_trips=7) == 7 * one
