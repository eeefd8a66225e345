"""A model over eight simulated devices, split in every way, against the same on one device."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from explainft.core.errors import UserError
from explainft.model.config import T5Config
from explainft.model.parameters import parameter_shapes
from explainft.parallel import sharding
from tests.helpers import eight_devices
from tests.helpers.xla_flags import device_flags

GOLDEN = Path(__file__).parents[1] / "golden" / "sharding.json"
T5_3B = T5Config(32128, 1024, 32, 24, 24, 128, 16384)
T5_1_1 = T5Config(32128, 512, 8, 2, 2, 64, 1024, ("gelu", "linear"), logits_via_embedding=False)


def listed():
    """Returns how every parameter is split, as text; one layer of each stack stands for all."""
    found = {}
    for family, config in (("1.0", T5_3B), ("1.1", T5_1_1)):
        for fsdp in (False, True):
            specs = {name: sharding.partition(name, fsdp) for name in parameter_shapes(config)}
            layers = {name.replace("layers_1/", "layers_0/"): str(specs[name]) for name in specs if "layers_1/" in name}
            assert layers == {name: str(spec) for name, spec in specs.items() if "layers_0/" in name}
            kept = {name: str(spec) for name, spec in specs.items() if "layers_" not in name or "layers_0/" in name}
            found[f"T5 {family}, {'FSDP' if fsdp else 'no FSDP'}"] = kept
    return found


def test_partitions_equal_the_golden_file():
    assert listed() == json.loads(GOLDEN.read_text())


def test_optimizer_slots_are_sharded_like_their_parameters():
    mesh = sharding.make_mesh()
    params = {"encoder": {"layers_0": {"mlp": {"wi": {"kernel": np.zeros((4, 8))}}}}}
    moments = {"mu": params, "v_row": {"encoder": {"layers_0": {"mlp": {"wi": {"kernel": np.zeros(4)}}}}}, "count": 0}
    found = sharding.shardings(jax.tree.map(np.asarray, moments), params, mesh, fsdp=True)
    kernel = found["mu"]["encoder"]["layers_0"]["mlp"]["wi"]["kernel"]
    assert kernel.spec == PartitionSpec("data", "model")
    assert jax.tree.leaves(found["v_row"])[0].spec == PartitionSpec()
    assert found["count"].spec == PartitionSpec()


class FakeMesh:
    def __init__(self, data, model):
        self.shape = {"data": data, "model": model}
        self.size = data * model


@pytest.mark.parametrize(
    ("mesh", "fsdp", "message"),
    [
        (FakeMesh(1, 3), False, "num_heads=8 does not divide by MODEL_PARALLELISM=3; 1 do"),
        (FakeMesh(1, 16), False, "num_heads=8 does not divide by MODEL_PARALLELISM=16; 1, 2, 4, 8 do"),
        (FakeMesh(3, 1), True, "FSDP=True splits emb_dim=512 over 3 data-parallel devices; 1 do"),
    ],
)
def test_indivisible_model_is_refused(mesh, fsdp, message):
    with pytest.raises(UserError, match=message):
        sharding.check_model(T5_1_1, mesh, fsdp)


def test_indivisible_devices_are_refused():
    with pytest.raises(UserError, match="MODEL_PARALLELISM=3 does not divide the 1 devices; it can be 1"):
        sharding.make_mesh(3)


@functools.cache
def on_eight_devices():
    """Runs every way of splitting in a process with eight simulated devices: this process has one."""
    process = subprocess.run(
        [sys.executable, "-m", "tests.helpers.eight_devices"],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": device_flags(8)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


@pytest.mark.parametrize(
    ("mesh", "choice"),
    [(mesh, choice) for mesh, choices in eight_devices.TRIED.items() for choice in choices],
)
def test_three_steps_equal_one_device(mesh, choice):
    found = on_eight_devices()[f"{mesh} {choice}"]
    # Another order of a sum may round to the next bfloat16 number, and some steps later turn a relu on or off.
    assert found["loss"] < (1e-3 if choice == "bfloat16" else 1e-5)
    if choice != "bfloat16":
        assert found["gradients"] < 1e-5
        assert found["parameters"] < 1e-5
    # A device holds its part of the largest parameter and no more.
    data, model = map(int, mesh.split("x"))
    assert found["fraction"] == pytest.approx(1 / model / (data if eight_devices.CHOICES[choice].get("fsdp") else 1))


def test_decoding_equals_one_device():
    for mesh, dtypes in eight_devices.DECODED.items():
        for dtype in dtypes:
            assert on_eight_devices()[f"{mesh} decoding {dtype}"] == 0


if __name__ == "__main__":  # python -m tests.parallel.sharding_test writes the golden file
    GOLDEN.write_text(json.dumps(listed(), indent=1) + "\n")
