"""Checksums of a checkpoint's arrays. What they find is tested in tests/survival."""

import jax.numpy as jnp
import numpy as np
import pytest

from explainft.checkpoints import integrity


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int32])
def test_the_checksum_is_its_definition(dtype):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(7, 5, 3)) * 100, dtype)
    bits = np.asarray(x).ravel().view(f"u{x.dtype.itemsize}")
    total = 0
    for i, b in enumerate(bits.tolist()):
        h = (i ^ i >> 16) * 0x85EBCA6B % 2**32
        h = (h ^ h >> 13) * 0xC2B2AE35 % 2**32
        total += b * ((h ^ h >> 16) | 1)
    assert integrity.checksum(x) == total % 2**32
