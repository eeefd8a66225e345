"""Planning: what is counted, against counts by hand; which topologies are known; what would need less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from explainft import hlo, plan
from explainft.errors import UserError
from explainft.flops import matmul_flops
from explainft.t5 import T5Config, parameter_shapes

HLO = """HloModule jit_step

%body (p: (s32[], f32[24,8,4])) -> (s32[], f32[24,8,4]) {
  %p = (s32[], f32[24,8,4]{2,1,0}) parameter(0)
  %x = f32[8,4]{1,0} get-tuple-element(%p), index=1
  %near = f32[8,4]{1,0:T(8,128)S(1)} fusion(%x), kind=kLoop, calls=%inside
  %sum = f32[8,4]{1,0} all-reduce(%near), replica_groups={}, to_apply=%add
}

%inside (q: f32[8,4]) -> f32[8,4] {
  %q = f32[8,4]{1,0} parameter(0)
  ROOT %r = f32[8,4]{1,0} multiply(%q, %q)
}

ENTRY %main (a: f32[8,4]) -> f32[8,4] {
  %a = f32[8,4]{1,0} parameter(0)
  %b = bf16[8,4]{1,0} convert(%a)
  %w = (s32[], f32[24,8,4]{2,1,0}) while(%t), condition=%c, body=%body, backend_config={"known_trip_count":{"n":"24"}}
}
"""


def test_a_loop_s_body_counts_as_often_as_it_runs():
    found = hlo.costs(HLO)
    array = 8 * 4 * 4
    assert found.collectives == {"all-reduce": 24 * array}
    assert found.counts == {"all-reduce": 24}
    # The conversion reads 4 bytes and writes 2; in the loop the fusion reads x, and the all-reduce writes its sum:
    # what lies on the chip, and what happens inside of a fusion, does not reach the memory.
    assert found.bytes_accessed == 8 * 4 * (4 + 2) + 24 * (array + array)


def test_flops_of_loops_and_of_what_is_computed_again():
    x = jax.ShapeDtypeStruct((8, 16), jnp.float32)
    w = jax.ShapeDtypeStruct((16, 16), jnp.float32)
    one = 2 * 8 * 16 * 16
    assert matmul_flops(lambda x, w: x @ w, x, w) == one

    def layers(x, w):
        return jax.lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, None, length=5)[0]

    assert matmul_flops(layers, x, w) == 5 * one
    loss = jax.grad(lambda w, x: layers(x, w).sum())
    assert matmul_flops(loss, w, x) == 3 * 5 * one  # forward, and two products backward

    def once(x, w):
        return jnp.sin(jnp.sin(x @ w) @ w).sum()

    again = jax.grad(jax.checkpoint(once, policy=jax.checkpoint_policies.nothing_saveable), argnums=(0, 1))
    plain = jax.grad(once, argnums=(0, 1))
    assert matmul_flops(plain, x, w) == 6 * one
    assert matmul_flops(again, x, w) > matmul_flops(plain, x, w)

    def until(x):
        return jax.lax.while_loop(
            lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] @ np.ones((16, 16), np.float32)), (0, x)
        )

    assert matmul_flops(until, x, while_trips=7) == 7 * one


@pytest.mark.parametrize(
    ("topology", "message"),
    [
        ("v5e", "--topology=v5e is unknown"),
        ("v9:2x2", "--topology=v9:2x2 is unknown"),
        ("cpu:0", "names no number of devices"),
        ("cpu:4000", "needs 4000 simulated devices; set XLA_FLAGS"),
    ],
)
def test_topologies_that_are_none(topology, message):
    with pytest.raises(UserError, match=message):
        plan.devices_of(topology)


def test_the_nearest_change_comes_first():
    class Mesh:
        shape = {"data": 8, "model": 1}
        size = 8

    model = T5Config(32128, 512, 8, 2, 2, 64, 1024)
    words = [words for words, _ in plan.changes(model, 1, Mesh(), fsdp=False)]
    assert words[:3] == ["REMAT_POLICY=minimal", "REMAT_POLICY=full", "REMAT_POLICY=full MICROBATCHES=2"]
    assert words[-3:] == [f"REMAT_POLICY=full MODEL_PARALLELISM={n}" for n in (2, 4, 8)]


def test_a_plan_on_this_machine_s_cpu():
    mesh = plan.mesh_of(jax.devices()[:1], 1)
    model = T5Config(64, 16, 2, 1, 1, 8, 32)
    program = plan.decode_program(mesh, model, 4, 8, 3)
    parameters = sum(int(np.prod(shape)) for shape in parameter_shapes(model).values())
    assert program.arguments >= 4 * parameters
    assert program.memory > program.arguments
