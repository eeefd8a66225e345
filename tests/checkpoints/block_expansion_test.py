import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from explainft.checkpoints import convert, run_checkpoint
from explainft.checkpoints.block_expansion import expand_blocks
from explainft.core.errors import UserError
from explainft.evaluation.infer import PRETRAINED
from explainft.model.t5 import T5
from tests.helpers.training import MODEL, rows
from tests.helpers.training import run as train_run

TOKENS = (jnp.array([[5, 9, 12, 1]]), jnp.array([[0, 7, 8]]), jnp.array([[7, 8, 1]]))


def deeper(encoder, decoder):
    weights = convert.open_weights(str(PRETRAINED))
    numbers = dict(num_encoder_layers=encoder, num_decoder_layers=decoder)
    return weights, dataclasses.replace(weights.architecture(), **numbers)


def test_added_layers_compute_the_identity():
    weights, config = deeper(3, 5)
    expanded = expand_blocks(weights, config)
    assert expanded.architecture() == config and expanded.read_slot is None
    logits, same = (T5(w.architecture()).apply({"params": w.tree()}, *TOKENS) for w in (weights, expanded))
    np.testing.assert_array_equal(logits, same)
    assert "with 1 added encoder layers and 3 added decoder layers" in expanded.origin


def test_added_layers_are_copies_with_zero_output_projections():
    weights, config = deeper(2, 4)
    expanded = expand_blocks(weights, config)
    for number in (2, 3):
        name = f"decoder/layers_{number}/mlp"
        copied = weights.read(f"decoder/layers_{number - 2}/mlp/wi/kernel")
        np.testing.assert_array_equal(expanded.read(f"{name}/wi/kernel"), copied)
        assert not expanded.read(f"{name}/wo/kernel").any()
        assert not expanded.read(f"decoder/layers_{number}/self_attention/out/kernel").any()


def test_a_checkpoint_of_more_layers_is_refused():
    with pytest.raises(UserError, match="has 2 decoder layers and the model only 1; give --gin.NUM_DECODER_LAYERS=2"):
        expand_blocks(*deeper(2, 1))


def test_equal_layers_change_nothing():
    weights, config = deeper(2, 2)
    assert expand_blocks(weights, config) is weights


def test_a_run_starts_where_the_shallower_one_ended(tmp_path, tiny_data_dir):
    train_run(tmp_path / "shallow", tiny_data_dir, 4)
    start = {"path": str(tmp_path / "shallow"), "step": 0}
    model = T5(dataclasses.replace(MODEL, num_decoder_layers=MODEL.num_decoder_layers + 1))
    expanded = dict(initial_checkpoint={**start, "block_expansion": True}, model=model, log_period=1)
    train_run(tmp_path / "deep", tiny_data_dir, 2, **expanded)
    train_run(tmp_path / "again", tiny_data_dir, 2, initial_checkpoint=start, model=T5(MODEL), log_period=1)
    [deep], [again] = ([r["loss"] for r in rows(tmp_path / name) if "loss" in r][:1] for name in ("deep", "again"))
    assert deep == pytest.approx(again, rel=1e-5)
    trained = run_checkpoint.open_run(tmp_path / "deep")
    name = f"decoder/layers_{MODEL.num_decoder_layers}/mlp/wo/kernel"
    assert trained.read(name).any()
    with pytest.raises(UserError, match="has no parameter"):
        train_run(tmp_path / "refused", tiny_data_dir, 2, initial_checkpoint=start, model=model)
