"""Which hardware a plan can be made for."""

import jax
import pytest

from explainft.core.errors import UserError
from explainft.planning import hardware


@pytest.mark.parametrize(
    ("topology", "message"),
    [
        ("v5e", "--topology=v5e is unknown"),
        ("v9:2x2", "--topology=v9:2x2 is unknown"),
        ("cpu:0", "is not a valid number of devices"),
        ("cpu:4000", "jax has started with .* plan in a new process"),
        ("gpu:8", "run the plan there, with --topology=local"),
    ],
)
def test_invalid_topology_is_refused(topology, message):
    jax.devices()
    with pytest.raises(UserError, match=message):
        hardware.find_devices(topology)


def test_every_topology_has_known_hardware():
    assert {layout.split(":")[0] for layout in hardware.TPU_TOPOLOGIES.values()} == set(hardware.HARDWARE)
    # FLOPs per byte: swapped figures of a generation would stand out.
    assert all(150 < c.flops / c.memory_bandwidth < 600 for c in hardware.HARDWARE.values())


@pytest.mark.tpu
@pytest.mark.parametrize(("topology", "chips"), [("v5e:1x1", 1), ("v4:1x1x1", 1), ("v6e:1x2", 2), ("v5e-16", 16)])
def test_topology_has_as_many_devices_as_chips(topology, chips):
    pytest.importorskip("libtpu", reason="needs the extra tpu")
    devices, _ = hardware.find_devices(topology)
    assert len(devices) == chips
