"""What a compiled program moves, against counts by hand."""

import jax
import jax.numpy as jnp
import pytest

from explainft.planning import hlo

HLO = """HloModule jit_step

%body (p: (s32[], f32[24,8,4])) -> (s32[], f32[24,8,4]) {
  %p = (s32[], f32[24,8,4]{2,1,0}) parameter(0)
  %x = f32[8,4]{1,0} get-tuple-element(%p), index=1
  %near = f32[8,4]{1,0:T(8,128)S(1)} fusion(%x), kind=kLoop, calls=%inside
  %sum = f32[8,4]{1,0:T(8,128)S(1)} all-reduce(%near), replica_groups={}, to_apply=%add
  %out = f32[8,4]{1,0} copy(%sum)
}

%inside (q: f32[8,4]) -> f32[8,4] {
  %q = f32[8,4]{1,0} parameter(0)
  ROOT %r = f32[8,4]{1,0} multiply(%q, %q)
}

%condition (c: (s32[], f32[24,8,4])) -> pred[] {
  %c = (s32[], f32[24,8,4]{2,1,0}) parameter(0)
  %i = s32[] get-tuple-element(%c), index=0
  %n = s32[]{:T(128)} constant(24)
  ROOT %less = pred[] compare(%i, %n), direction=LT, metadata={op_name="while"}
}

ENTRY %main (a: f32[8,4]) -> f32[8,4] {
  %a = f32[8,4]{1,0} parameter(0)
  %b = bf16[8,4]{1,0} convert(%a)
  %w = (s32[], f32[24,8,4]{2,1,0}) while(%t), condition=%condition, body=%body TRIPS
}
"""
ARRAY = 8 * 4 * 4

SLICED = """HloModule jit_step

%one_layer (stack: f32[24,8,4], i: s32[]) -> f32[1,8,4] {
  %stack = f32[24,8,4]{2,1,0} parameter(0)
  %i = s32[] parameter(1)
  %layer = f32[1,8,4]{2,1,0} dynamic-slice(%stack, %i), dynamic_slice_sizes={1,8,4}
  ROOT %twice = f32[1,8,4]{2,1,0} add(%layer, %layer)
}

%renamed (all: f32[24,8,4]) -> f32[192,4] {
  %all = f32[24,8,4]{2,1,0} parameter(0)
  ROOT %flat = f32[192,4]{1,0} bitcast(%all)
}

%every_layer (stack: f32[24,8,4]) -> f32[4] {
  %stack = f32[24,8,4]{2,1,0} parameter(0)
  %flat = f32[192,4]{1,0} fusion(%stack), kind=kLoop, calls=%renamed
  ROOT %total = f32[4]{0} reduce(%flat, %zero), dimensions={0}, to_apply=%add
}

%put (stack: f32[24,8,4], new: f32[1,8,4]) -> f32[24,8,4] {
  %stack = f32[24,8,4]{2,1,0} parameter(0)
  %new = f32[1,8,4]{2,1,0} parameter(1)
  ROOT %after = f32[24,8,4]{2,1,0} dynamic-update-slice(%stack, %new, %i, %z, %z)
}

ENTRY %main (stack: f32[24,8,4]) -> f32[24,8,4] {
  %stack = f32[24,8,4]{2,1,0} parameter(0)
  %read = f32[1,8,4]{2,1,0} fusion(%stack, %i), kind=kLoop, calls=%one_layer
  %written = f32[24,8,4]{2,1,0} fusion(%stack, %read), kind=kLoop, calls=%put
  %ahead = (f32[1,8,4]{2,1,0:T(8,128)S(1)}, f32[1,8,4]{2,1,0}, u32[]{:S(2)}) copy-start(%read)
  %arrived = f32[1,8,4]{2,1,0:T(8,128)S(1)} copy-done(%ahead)
  %next = (f32[1,8,4]{2,1,0:S(1)}, f32[1,8,4]{2,1,0:S(1)}, u32[]{:S(2)}) collective-permute-start(%arrived)
  %here = f32[1,8,4]{2,1,0:T(8,128)S(1)} collective-permute-done(%next)
  %sum = f32[4]{0:T(128)S(1)} fusion(%written), kind=kInput, calls=%every_layer
}
"""


@pytest.mark.parametrize("trips", ["", ', backend_config={"known_trip_count":{"n":"24"}}'])
def test_loop_body_counts_once_per_trip(trips):
    found = hlo.costs(HLO.replace("TRIPS", trips))
    assert found.collectives == {"all-reduce": 24 * ARRAY}  # on the chip or not, it passes the links
    assert found.counts == {"all-reduce": 24}
    assert found.bytes_sent() == 2 * 24 * ARRAY
    # The conversion reads 4 bytes and writes 2; in the loop the fusion reads x, and the copy writes the sum: arrays on
    # the chip, and those inside of a fusion, do not access memory.
    assert found.bytes_accessed == 8 * 4 * (4 + 2) + 24 * (ARRAY + ARRAY)


def test_loop_of_unknown_length_counts_while_trips():
    text = HLO.replace("TRIPS", "").replace("direction=LT", "direction=NE")
    assert hlo.costs(text, while_trips=7).counts == {"all-reduce": 7}


def test_slice_of_a_stack_costs_one_layer():
    found = hlo.costs(SLICED)
    # Read a layer and write its double; read that and write it into the stack; read it once more, ahead of its use;
    # sum up all layers.
    assert found.bytes_accessed == 2 * ARRAY + 2 * ARRAY + ARRAY + 24 * ARRAY
    assert found.collectives == {"collective-permute": ARRAY}


def test_bytes_equal_xla_s_cost_analysis():
    """Without loops XLA counts the same."""
    x = jax.ShapeDtypeStruct((64, 32), jnp.float32)
    program = jax.jit(lambda x, y: x @ y.T).lower(x, x).compile()
    assert hlo.costs(program.as_text()).bytes_accessed == program.cost_analysis()["bytes accessed"]
