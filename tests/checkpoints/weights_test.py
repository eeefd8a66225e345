"""Parameters and optimizer slots against the model that they are for."""

import dataclasses

import numpy as np
import pytest

from explainft.checkpoints import convert, hugging_face
from explainft.checkpoints.weights import architecture, check_parameters, restore_slots
from explainft.core.errors import UserError
from explainft.model.parameters import named_leaves, parameter_shapes
from explainft.training import optimizers
from tests.helpers.weights import FAMILIES, SMALL, random_weights, zero_parameters


def test_a_mismatch_names_parameter_and_shapes(tmp_path):
    hugging_face.write(tmp_path / "hf", random_weights(SMALL))
    found = hugging_face.read(tmp_path / "hf")
    with pytest.raises(UserError, match=r"'decoder/layers_0/mlp/wi/kernel' has shape \(128, 192\).*\(128, 256\)"):
        check_parameters(found, dataclasses.replace(SMALL, mlp_dim=256))
    with pytest.raises(UserError, match="has no parameter 'encoder/layers_1/attention/key/kernel'"):
        check_parameters(found, dataclasses.replace(SMALL, num_encoder_layers=2))
    with pytest.raises(UserError, match="parameter 'decoder/layers_1/.*' that the model lacks"):
        check_parameters(found, dataclasses.replace(SMALL, num_decoder_layers=1))


def test_other_activations_are_refused(tmp_path):
    silu = dataclasses.replace(FAMILIES["1.1"], mlp_activations=("silu", "linear"))
    hugging_face.write(tmp_path / "hf", random_weights(silu))
    found = convert.open_weights(str(tmp_path / "hf"))
    check_parameters(found, silu)
    with pytest.raises(UserError, match=r"mlp_activations=\('silu', 'linear'\), but the model \('gelu', 'linear'\)"):
        check_parameters(found, FAMILIES["1.1"])
    # Shapes alone do not show it, and T5X stores nothing else.
    check_parameters(dataclasses.replace(found, config=None), silu)
    with pytest.raises(
        UserError, match=r"Hugging Face's T5 does not support mlp_activations=\('gelu',\); use --to t5x"
    ):
        hugging_face.write(tmp_path / "gelu", random_weights(dataclasses.replace(SMALL, mlp_activations=("gelu",))))


def test_slots_of_other_shapes_are_refused():
    tx = optimizers.adafactor(lambda _: 1e-3)
    odd = dataclasses.replace(random_weights(SMALL, slots=True), read_slot=lambda name, slot: np.zeros(1, np.float32))
    with pytest.raises(UserError, match=r"v_row of 'decoder/.*' has shape \(1,\), but this optimizer's is \(128,\)"):
        restore_slots(odd, tx.init(zero_parameters(SMALL)), 7)


def test_architecture_from_shapes():
    for config in FAMILIES.values():
        assert architecture(parameter_shapes(config), "it") == config
    with pytest.raises(UserError, match="has no parameter 'token_embedder/embedding'"):
        architecture({}, "it")


def test_optimizer_state_at_a_restored_step():
    restored = random_weights(SMALL, slots=True, step=1_000_000)
    for clip_norm in (None, 1.0):
        tx = optimizers.adafactor(lambda _: 1e-3, clip_norm=clip_norm)
        fresh = tx.init(zero_parameters(SMALL))
        flat = named_leaves(restore_slots(restored, fresh, 1_000_000))
        counts = [leaf for name, leaf in flat.items() if name.endswith("count")]
        assert [int(count) for count in counts] == [1_000_000, 1_000_000]  # Adafactor's and the schedule's
        name = "encoder/layers_0/mlp/wi/kernel"
        found = next(leaf for path, leaf in flat.items() if path.endswith(f"v_col/{name}"))
        np.testing.assert_array_equal(found, restored.read_slot(name, "v_col"))
        # Without slots Adafactor restarts, while the schedule continues.
        flat = named_leaves(restore_slots(random_weights(SMALL), fresh, 1_000_000))
        assert sorted(int(leaf) for path, leaf in flat.items() if path.endswith("count")) == [0, 1_000_000]
