"""Checkpoints that T5X writes and restores, against our conversion."""

import asyncio
import dataclasses

import numpy as np
import pytest
from etils import epath

from explainft.checkpoints import convert, t5x
from explainft.checkpoints.weights import SLOTS
from explainft.data.compact_vocabulary import COMPACT
from explainft.model.parameters import named_leaves

pytestmark = [
    pytest.mark.t5x,
    # T5X and what it imports (TensorFlow, clu, orbax) warn of their own future; what they store is compared below.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
STEP = 1000
FAMILIES = {"1.0": (("relu",), True), "1.1": (("gelu", "linear"), False)}


class Theirs:
    """A train state of T5X with random optimizer slots, and T5X's two ways to store it."""

    def __init__(self, family):
        import jax
        import jax.numpy as jnp
        import seqio
        from t5x import adafactor, models, partitioning, utils
        from t5x.examples.t5 import network

        activations, tied = FAMILIES[family]
        config = network.T5Config(
            vocab_size=160, dtype="float32", emb_dim=128, num_heads=4, num_encoder_layers=2, num_decoder_layers=1,
            head_dim=32, mlp_dim=192, mlp_activations=activations, dropout_rate=0.0, logits_via_embedding=tied,
        )  # fmt: skip
        optimizer = adafactor.Adafactor(
            decay_rate=0.8, step_offset=0, logical_factor_rules=adafactor.standard_logical_factor_rules()
        )
        vocabulary = seqio.SentencePieceVocabulary(COMPACT)
        model = models.EncoderDecoderModel(network.Transformer(config), vocabulary, vocabulary, optimizer)
        self.partitioner = partitioning.PjitPartitioner(
            num_partitions=1, logical_axis_rules=partitioning.standard_logical_axis_rules()
        )
        features = ("encoder_input_tokens", "decoder_input_tokens", "decoder_target_tokens", "decoder_loss_weights")
        initializer = utils.TrainStateInitializer(
            optimizer_def=optimizer,
            init_fn=model.get_initial_variables,
            input_shapes=dict.fromkeys(features, (2, 16)),
            input_types=dict.fromkeys(features, np.int32),
            partitioner=self.partitioner,
        )
        self.fresh = initializer.from_scratch(jax.random.PRNGKey(0))
        rng = np.random.default_rng(0)
        contents = self.fresh.state_dict()
        contents["state"]["step"] = jnp.int32(STEP)
        contents["state"]["param_states"] = jax.tree.map(
            lambda x: jnp.asarray(rng.random(x.shape), jnp.float32), contents["state"]["param_states"]
        )
        self.state = self.fresh.restore_state(contents)

    def save(self, layout, folder):
        from t5x import checkpoints

        folder.mkdir()
        if layout == "msgpack":
            checkpoints.Checkpointer(self.state, self.partitioner, str(folder)).save(self.state)
        else:
            manager = checkpoints.OrbaxCheckpointManagerInterface(str(folder), self.state, self.partitioner)
            manager.save(self.state)
            manager.close()
        return folder / f"checkpoint_{STEP}"

    def restore(self, path, folder):
        """As T5X's train.py restores: through the orbax manager, which hands the older layout on."""
        from t5x import checkpoints

        folder.mkdir()
        manager = checkpoints.OrbaxCheckpointManagerInterface(str(folder), self.fresh, self.partitioner)
        return manager.restore(path=str(path))


@pytest.fixture(autouse=True)
def close_event_loops(monkeypatch):
    """T5X's Checkpointer makes an event loop for itself each time and closes none."""
    opened = []
    make = asyncio.new_event_loop
    monkeypatch.setattr(asyncio, "new_event_loop", lambda: opened.append(make()) or opened[-1])
    yield
    asyncio.set_event_loop(None)
    for loop in opened:
        loop.close()


@pytest.fixture(scope="module", params=FAMILIES)
def theirs(request):
    pytest.importorskip("t5x", reason="compares with T5X: needs a T5X checkout on PYTHONPATH")
    return Theirs(request.param)


def parts(state):
    contents = state.state_dict()
    slots = named_leaves(contents["state"]["param_states"])
    return named_leaves(contents["target"]), {k: v for k, v in slots.items() if not k.endswith("/m")}


@pytest.mark.parametrize("layout", ["msgpack", "orbax"])
def test_both_layouts_there_and_back(theirs, layout, tmp_path):
    path = theirs.save(layout, tmp_path / "theirs")
    found = convert.open_weights(str(path))
    target, slots = parts(theirs.state)
    assert found.step == STEP
    assert found.parameters == {name: value.shape for name, value in target.items()}
    for name, value in target.items():
        np.testing.assert_array_equal(found.read(name), value, err_msg=name)
        for slot in SLOTS:
            np.testing.assert_array_equal(found.read_slot(name, slot), slots[f"{name}/{slot}"], err_msg=name)

    again = theirs.restore(convert.convert(str(path), tmp_path / "ours", "t5x"), tmp_path / "run")
    assert int(again.step) == STEP
    for before, after in zip(parts(theirs.state), parts(again), strict=True):
        assert before.keys() == after.keys()
        for name, value in before.items():
            np.testing.assert_array_equal(after[name], value, err_msg=name)


def test_written_without_slots_t5x_starts_as_it_would_itself(theirs, tmp_path):
    found = convert.open_weights(str(theirs.save("msgpack", tmp_path / "theirs")))
    t5x.write(epath.Path(tmp_path / "checkpoint_0"), dataclasses.replace(found, read_slot=None))
    again = theirs.restore(tmp_path / "checkpoint_0", tmp_path / "run")
    assert int(again.step) == 0
    _, fresh = parts(theirs.fresh)
    _, slots = parts(again)
    assert fresh.keys() == slots.keys()
    for name, value in fresh.items():
        np.testing.assert_array_equal(slots[name], value, err_msg=name)
