"""Checkpoints in and out, without Hugging Face's or T5X's code: that takes part in the tests marked hf and t5x."""

import dataclasses
import gc
import json
import resource
import shutil
import tracemalloc

import jax
import ml_dtypes
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from etils import epath
from flax import traverse_util
from safetensors.numpy import load_file, save_file

from explainft.checkpoints import convert, export, hugging_face, run_checkpoint, t5x
from explainft.checkpoints.weights import SLOTS, Weights, architecture, check_network, parameters_like, slots_like
from explainft.core.errors import UserError, require_local
from explainft.data.compact_vocabulary import COMPACT
from explainft.evaluation.infer import PRETRAINED
from explainft.model.config import T5Config
from explainft.model.parameters import named_leaves, parameter_shapes
from explainft.training import optimizers
from explainft.training.train_state import TrainState, init_state
from tests.training.train_test import run as train_run

SMALL = T5Config(
    vocab_size=160, emb_dim=128, num_heads=4, num_encoder_layers=1, num_decoder_layers=2, head_dim=32, mlp_dim=192
)
FAMILIES = {
    "1.0": SMALL,
    "1.1": dataclasses.replace(SMALL, mlp_activations=("gelu", "linear"), logits_via_embedding=False),
}


def weights(config, *, slots=False, step=7):
    """Random parameters and, if asked for, random slots of Adafactor."""
    rng = np.random.default_rng(0)
    values = {name: rng.normal(size=shape).astype(np.float32) for name, shape in parameter_shapes(config).items()}
    random_slots = {
        (name, slot): rng.random(t5x.fresh_slot(value.shape, slot).shape).astype(np.float32)
        for name, value in values.items()
        for slot in SLOTS
    }
    return Weights(
        origin="random",
        parameters=parameter_shapes(config),
        read=values.__getitem__,
        step=step,
        read_slot=(lambda name, slot: random_slots[name, slot]) if slots else None,
        config=config,
    )


def assert_same(found, wanted, *, slots=False):
    assert found.parameters == dict(wanted.parameters)
    for name in wanted.parameters:
        np.testing.assert_array_equal(found.read(name), wanted.read(name), err_msg=name)
        for slot in SLOTS if slots else ():
            np.testing.assert_array_equal(found.read_slot(name, slot), wanted.read_slot(name, slot), err_msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_round_trip_through_both_formats_is_bitwise(family, tmp_path):
    original = weights(FAMILIES[family])
    hugging_face.write(tmp_path / "hf", original)
    first = convert.convert(str(tmp_path / "hf"), tmp_path / "t5x", "t5x")
    second = convert.convert(str(first), tmp_path / "back", "hf")
    found = convert.open_weights(str(second))
    assert found.architecture() == FAMILIES[family]
    assert_same(found, original)
    tensors = load_file(second / "model.safetensors")
    assert ("lm_head.weight" in tensors) == (family == "1.1")
    # Theirs is [out, in], and the memory order of a transposed array must not show.
    np.testing.assert_array_equal(
        tensors["encoder.block.0.layer.1.DenseReluDense.wo.weight"], original.read("encoder/layers_0/mlp/wo/kernel").T
    )


def test_slots_and_step_go_through_t5x(tmp_path):
    original = weights(SMALL, slots=True, step=1_000_000)
    t5x.write(epath.Path(tmp_path / "checkpoint_1000000"), original)
    found = convert.open_weights(str(tmp_path))  # a MODEL_DIR stands for its newest checkpoint
    assert found.step == 1_000_000
    assert found.architecture() == SMALL
    assert_same(found, original, slots=True)


def test_without_slots_t5x_gets_fresh_ones_at_step_0(tmp_path):
    t5x.write(epath.Path(tmp_path), weights(SMALL, step=500))
    found = t5x.read(epath.Path(tmp_path))
    assert found.step == 0
    state = optimizers.adafactor(lambda _: 1e-3).init(
        traverse_util.unflatten_dict(
            {name: np.zeros(shape, np.float32) for name, shape in found.parameters.items()}, sep="/"
        )
    )
    factored = next(
        s
        for s in jax.tree.leaves(state, is_leaf=lambda s: isinstance(s, optax.FactoredState))
        if isinstance(s, optax.FactoredState)
    )
    for slot in SLOTS:
        for name, wanted in named_leaves(getattr(factored, slot)).items():
            np.testing.assert_array_equal(found.read_slot(name, slot), wanted, err_msg=f"{name} {slot}")


def test_t5x_s_orbax_layout(tmp_path):
    original = weights(SMALL, slots=True)
    slots = {f"{n}/{s}": original.read_slot(n, s) for n in original.parameters for s in SLOTS}
    tree = {
        "target": traverse_util.unflatten_dict({n: original.read(n) for n in original.parameters}, sep="/"),
        "state": {"step": np.int32(7), "param_states": traverse_util.unflatten_dict(slots, sep="/")},
    }
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "checkpoint_7" / "state", tree)
    found = convert.open_weights(str(tmp_path / "checkpoint_7"))
    assert found.step == 7
    assert_same(found, original, slots=True)


def test_t5x_without_optimizer_state(tmp_path):
    original = weights(SMALL)
    tree = {"target": traverse_util.unflatten_dict({n: original.read(n) for n in original.parameters}, sep="/")}
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "checkpoint_7" / "state", tree)
    found = convert.open_weights(str(tmp_path))
    assert found.step is None and found.read_slot is None
    assert_same(found, original)


def test_our_runs_and_their_step_folders(tmp_path):
    wanted = run_checkpoint.open_run(PRETRAINED)
    assert_same(convert.open_weights(str(PRETRAINED)), wanted)
    assert_same(convert.open_weights(str(PRETRAINED / "checkpoints" / f"checkpoint_{wanted.step}")), wanted)
    out = convert.convert(str(PRETRAINED), tmp_path / "hf", "hf")
    assert_same(hugging_face.read(out), wanted)
    settings = json.loads((out / "config.json").read_text())
    assert (settings["d_model"], settings["tie_word_embeddings"], settings["vocab_size"]) == (64, True, 160)
    assert "explained_tiny_medium_compact" in (out / "README.md").read_text()
    assert (out / "spiece.model").read_bytes() == (PRETRAINED / "vocabulary.model").read_bytes()


def test_shards_hold_little_and_say_where_each_tensor_is(tmp_path, monkeypatch):
    original = weights(SMALL)
    monkeypatch.setattr(hugging_face, "SHARD_BYTES", 200_000)
    hugging_face.write(tmp_path / "hf", original)
    index = json.loads((tmp_path / "hf" / "model.safetensors.index.json").read_text())
    files = set(index["weight_map"].values())
    assert len(files) > 3
    for name, file in index["weight_map"].items():
        assert name in load_file(tmp_path / "hf" / file)
    total = 4 * sum(int(np.prod(shape)) for shape in original.parameters.values())
    assert index["metadata"]["total_size"] == total
    assert_same(hugging_face.read(tmp_path / "hf"), original)
    # Reading and writing in pieces: never the whole at once.
    tracemalloc.start()
    convert.convert(str(tmp_path / "hf"), tmp_path / "again", "hf")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < total


def test_bfloat16(tmp_path):
    original = weights(SMALL)
    hugging_face.write(tmp_path / "hf", original, "bfloat16")
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["dtype"] == "bfloat16"
    t5x = convert.convert(str(tmp_path / "hf"), tmp_path / "t5x", "t5x")
    found = convert.open_weights(str(t5x))
    for name in original.parameters:
        assert found.read(name).dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(found.read(name), original.read(name).astype(ml_dtypes.bfloat16))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda d: None, ["no checkpoint at", "expected is a run of explainft"]),
        (lambda d: d.mkdir(), ["holds nothing", "T5X checkpoint"]),
        (lambda d: (d.mkdir(), (d / "notes.txt").touch()), ["holds notes.txt", "Hugging Face folder"]),
        (
            lambda d: (
                d.mkdir(),
                (d / "checkpoint").write_text('model_checkpoint_path: "x"'),
                (d / "model.ckpt-1.index").touch(),
            ),
            ["TensorFlow checkpoint must be converted by T5X"],
        ),
    ],
)
def test_what_is_no_checkpoint(make, words, tmp_path):
    make(tmp_path / "it")
    with pytest.raises(UserError) as error:
        convert.open_weights(str(tmp_path / "it"))
    for word in words:
        assert word in error.value.line


def test_damage_is_told_in_one_line(tmp_path):
    t5x.write(epath.Path(tmp_path / "checkpoint_0"), weights(SMALL))
    (tmp_path / "checkpoint_0" / "target.token_embedder.embedding" / ".zarray").write_text("{")
    found = convert.open_weights(str(tmp_path))
    found.read("encoder/encoder_norm/scale")
    with pytest.raises(UserError, match="checkpoint_0: cannot read token_embedder/embedding"):
        found.read("token_embedder/embedding")
    (tmp_path / "checkpoint_0" / "checkpoint").write_bytes(b"\x82\xa7versi")
    with pytest.raises(UserError, match="copy the checkpoint again"):
        convert.open_weights(str(tmp_path))
    hugging_face.write(tmp_path / "hf", weights(SMALL))
    whole = (tmp_path / "hf" / "model.safetensors").read_bytes()
    (tmp_path / "hf" / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="copy the checkpoint again"):
        convert.open_weights(str(tmp_path / "hf"))


def test_what_was_lost_on_the_way_is_not_read_as_something_else(tmp_path, monkeypatch):
    t5x.write(epath.Path(tmp_path / "checkpoint_0"), weights(SMALL))
    next((tmp_path / "checkpoint_0" / "target.token_embedder.embedding").glob("0.*")).unlink()
    with pytest.raises(UserError, match="cannot read token_embedder/embedding .*missing"):
        convert.open_weights(str(tmp_path)).read("token_embedder/embedding")
    monkeypatch.setattr(hugging_face, "SHARD_BYTES", 200_000)
    hugging_face.write(tmp_path / "hf", weights(FAMILIES["1.1"]))
    last = sorted((tmp_path / "hf").glob("*.safetensors"))[-1]
    last.unlink()
    with pytest.raises(UserError, match=f"lacks {last.name}, which its index names"):
        convert.open_weights(str(tmp_path / "hf"))


def test_slots_of_other_shapes_are_refused():
    tx = optimizers.adafactor(lambda _: 1e-3)
    odd = dataclasses.replace(weights(SMALL, slots=True), read_slot=lambda name, slot: np.zeros(1, np.float32))
    with pytest.raises(UserError, match=r"v_row of 'decoder/.*' has shape \(1,\), here it is \(128,\)"):
        slots_like(odd, init_state(SMALL, tx, 0).opt_state, 7)


def test_where_nothing_can_be_read_or_written(tmp_path, capsys):
    with pytest.raises(UserError, match="must be a directory of this machine"):
        require_local(DESTINATION="gs://bucket/out")
    t5x.write(epath.Path(tmp_path / "checkpoint_0"), weights(SMALL))
    for flags, message in (
        ({"to": "hf", "step": 5}, "has no checkpoint of step 5"),
        ({"to": "t5x", "vocabulary": COMPACT}, "it is for --to hf"),
        ({"to": "hf", "vocabulary": tmp_path / "none.model"}, "no SentencePiece model at"),
    ):
        with pytest.raises(UserError, match=message):
            convert.convert(str(tmp_path), tmp_path / "out", **flags)
    hugging_face.write(tmp_path / "hf", weights(SMALL))
    for alone in ("hf", "checkpoint_0"):
        with pytest.raises(UserError, match="is one checkpoint; give --step with the folder of a run"):
            convert.open_weights(str(tmp_path / alone), 5)
    shutil.copytree(next((PRETRAINED / "checkpoints").glob("checkpoint_*")), tmp_path / "alone")
    with pytest.raises(UserError, match="is a checkpoint outside of its run"):
        convert.open_weights(str(tmp_path / "alone"))
    convert.convert(str(tmp_path / "hf"), tmp_path / "t5x", "t5x")
    assert "fresh ones, at step 0" in capsys.readouterr().err


def test_steps_of_a_t5x_run(tmp_path):
    for step in (5, 40):
        t5x.write(epath.Path(tmp_path / f"checkpoint_{step}"), weights(SMALL, slots=True, step=step))
    assert convert.open_weights(str(tmp_path)).step == 40
    assert convert.open_weights(str(tmp_path), 5).step == 5
    with pytest.raises(UserError, match=r"no checkpoint of step 6; it has \[5, 40\]"):
        convert.open_weights(str(tmp_path), 6)


def test_a_mismatch_names_the_first_parameter_and_both_shapes(tmp_path):
    hugging_face.write(tmp_path / "hf", weights(SMALL))
    found = hugging_face.read(tmp_path / "hf")
    with pytest.raises(UserError, match=r"'decoder/layers_0/mlp/wi/kernel' has shape \(128, 192\).*\(128, 256\)"):
        check_network(found, dataclasses.replace(SMALL, mlp_dim=256))
    with pytest.raises(UserError, match="has no parameter 'encoder/layers_1/attention/key/kernel'"):
        check_network(found, dataclasses.replace(SMALL, num_encoder_layers=2))
    with pytest.raises(UserError, match="parameter 'decoder/layers_1/.*' that the network lacks"):
        check_network(found, dataclasses.replace(SMALL, num_decoder_layers=1))


def test_how_far_position_biases_reach_goes_along_or_is_refused(tmp_path):
    near = dataclasses.replace(SMALL, relative_attention_max_distance=32)
    hugging_face.write(tmp_path / "hf", weights(near))
    found = hugging_face.read(tmp_path / "hf")
    assert found.architecture() == near
    check_network(found, near)
    with pytest.raises(UserError, match="=32, the network 128; give --gin.RELATIVE_ATTENTION_MAX_DISTANCE=32"):
        check_network(found, SMALL)
    with pytest.raises(UserError, match="and T5X's network 128: use --to hf"):
        convert.convert(str(tmp_path / "hf"), tmp_path / "t5x", "t5x")
    with pytest.raises(UserError, match="relative_attention_max_distance=16 must be above 16"):
        dataclasses.replace(SMALL, relative_attention_max_distance=16)


@pytest.mark.parametrize("to", ["hf", "t5x"])
def test_an_encoder_that_others_do_not_have_is_no_folder_of_theirs(tmp_path, monkeypatch, to):
    local = dataclasses.replace(SMALL, encoder_local_radius=8)
    monkeypatch.setattr(convert, "open_weights", lambda source, step: weights(local))
    with pytest.raises(UserError, match="encoder_local_radius=8, which no T5 of T5X or Hugging Face has"):
        convert.convert("run", tmp_path / "out", to)
    with pytest.raises(UserError, match="encoder_local_radius=8, the network None"):
        check_network(weights(local), SMALL)
    with pytest.raises(UserError, match="encoder_local_radius=0 must be an integer of at least 1"):
        dataclasses.replace(SMALL, encoder_local_radius=0)


def edit(folder, file, change):
    settings = json.loads((folder / file).read_text())
    settings.update(change)
    (folder / file).write_text(json.dumps(settings))


def test_other_activations_are_another_network(tmp_path):
    silu = dataclasses.replace(FAMILIES["1.1"], mlp_activations=("silu", "linear"))
    hugging_face.write(tmp_path / "hf", weights(silu))
    found = convert.open_weights(str(tmp_path / "hf"))
    check_network(found, silu)
    with pytest.raises(UserError, match=r"mlp_activations=\('silu', 'linear'\), the network \('gelu', 'linear'\)"):
        check_network(found, FAMILIES["1.1"])
    # Shapes alone do not tell, and T5X keeps nothing else.
    check_network(dataclasses.replace(found, config=None), silu)
    with pytest.raises(UserError, match=r"Hugging Face's T5 has no mlp_activations=\('gelu',\); use --to t5x"):
        hugging_face.write(tmp_path / "gelu", weights(dataclasses.replace(SMALL, mlp_activations=("gelu",))))


def test_pieces_that_a_run_did_not_learn_are_suppressed_or_told(tmp_path, monkeypatch, capsys):
    learned = dataclasses.replace(weights(SMALL), meta={"output_ids": [1, 5, 7]})
    monkeypatch.setattr(convert, "open_weights", lambda source, step: learned)
    hf = convert.convert("run", tmp_path / "hf", "hf")
    suppressed = json.loads((hf / "generation_config.json").read_text())["suppress_tokens"]
    assert set(suppressed) == set(range(160)) - {1, 5, 7}
    assert "output pieces" not in capsys.readouterr().err
    convert.convert("run", tmp_path / "t5x", "t5x")
    assert "the run learned 3 of 160 output pieces alone (OUTPUT_VOCABULARY=task)" in capsys.readouterr().err


def test_hugging_face_s_ways_of_telling_the_family(tmp_path):
    folder = tmp_path / "hf"
    hugging_face.write(folder, weights(FAMILIES["1.1"]))
    # transformers 5 writes this of a T5 1.1.
    edit(folder, "config.json", {"tie_word_embeddings": True, "scale_decoder_outputs": False})
    assert_same(hugging_face.read(folder), weights(FAMILIES["1.1"]))
    edit(folder, "config.json", {"scale_decoder_outputs": True})
    with pytest.raises(UserError, match="neither T5 1.0 nor 1.1 does"):
        hugging_face.read(folder)


def test_other_networks_of_hugging_face_are_refused(tmp_path):
    folder = tmp_path / "hf"
    hugging_face.write(folder, weights(SMALL))
    edit(folder, "config.json", {"model_type": "umt5"})
    with pytest.raises(UserError, match="is of a 'umt5' model"):
        hugging_face.read(folder)
    edit(folder, "config.json", {"model_type": "t5", "relative_attention_num_buckets": 64})
    with pytest.raises(UserError, match="relative_attention_num_buckets 64; a T5 has 32"):
        hugging_face.read(folder)
    edit(folder, "config.json", {"relative_attention_num_buckets": 32})
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, "encoder.adapter.weight": np.ones(3, np.float32)}, folder / "model.safetensors")
    with pytest.raises(UserError, match="tensor 'encoder.adapter.weight' that T5 does not have"):
        hugging_face.read(folder)


def test_old_folders_of_t5_1_0_hold_their_embedding_three_times(tmp_path):
    folder = tmp_path / "hf"
    hugging_face.write(folder, weights(SMALL))
    tensors = load_file(folder / "model.safetensors")
    tensors |= {name: tensors["shared.weight"] for name in (*hugging_face.EMBEDDING, hugging_face.OUTPUT)}
    tensors[hugging_face.IGNORED] = np.ones((32, 4), np.float32)
    save_file(tensors, folder / "model.safetensors")
    assert_same(hugging_face.read(folder), weights(SMALL))


def test_nothing_is_overwritten_and_nothing_half_written_stays(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match="exists; name a new folder"):
        convert.convert(str(PRETRAINED), tmp_path / "there", "hf")
    monkeypatch.setattr(shutil, "copyfile", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(UserError, match="No space left on device"):
        convert.convert(str(PRETRAINED), tmp_path / "new", "hf")
    assert [entry.name for entry in tmp_path.iterdir()] == ["there"]


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("to", ["hf", "t5x", "export"])
def test_files_that_libraries_cannot_write_are_told_in_one_line(tmp_path, to):
    """Each library has its own error for a full disk; a limit on the size of files stands for one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(UserError, match="^cannot write .*new .*name a folder with room for it$"):
            if to == "export":
                export.export_run(PRETRAINED, tmp_path / "new", None, "float32")
            else:
                convert.convert(str(PRETRAINED), tmp_path / "new", to)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        gc.collect()  # what orbax leaves behind, which would be found in some other test
    assert not list(tmp_path.iterdir())


def test_shapes_tell_the_network():
    for config in FAMILIES.values():
        assert architecture(parameter_shapes(config), "it") == config
    with pytest.raises(UserError, match="has no parameter 'token_embedder/embedding'"):
        architecture({}, "it")


def test_optimizer_state_at_a_restored_step():
    restored = weights(SMALL, slots=True, step=1_000_000)
    for clip_norm in (None, 1.0):
        tx = optimizers.adafactor(lambda _: 1e-3, clip_norm=clip_norm)
        fresh = init_state(SMALL, tx, 0)
        flat = named_leaves(slots_like(restored, fresh.opt_state, 1_000_000))
        counts = [leaf for name, leaf in flat.items() if name.endswith("count")]
        assert [int(count) for count in counts] == [1_000_000, 1_000_000]  # Adafactor's and the schedule's
        name = "encoder/layers_0/mlp/wi/kernel"
        found = next(leaf for path, leaf in flat.items() if path.endswith(f"v_col/{name}"))
        np.testing.assert_array_equal(found, restored.read_slot(name, "v_col"))
        # Without slots Adafactor begins anew, while the schedule goes on.
        flat = named_leaves(slots_like(weights(SMALL), fresh.opt_state, 1_000_000))
        assert sorted(int(leaf) for path, leaf in flat.items() if path.endswith("count")) == [0, 1_000_000]


def test_training_goes_on_from_any_format(tmp_path, tiny_data_dir, capsys):
    """New runs from the conversions of one checkpoint of Adafactor's: what holds its slots ends bitwise equal."""
    changes = dict(optimizer=optimizers.adafactor, seed=3)
    train_run(tmp_path / "whole", tiny_data_dir, 6, **changes)
    t5x = convert.convert(str(tmp_path / "whole"), tmp_path / "t5x", "t5x", step=4)
    hf = convert.convert(str(tmp_path / "whole"), tmp_path / "hf", "hf", step=4)
    ours = str(tmp_path / "whole" / "checkpoints" / "checkpoint_4")
    ends = {}
    for name, path, more in (("ours", ours, {}), ("t5x", str(t5x), {}), ("hf", str(hf), {"step": 4})):
        train_run(tmp_path / f"from_{name}", tiny_data_dir, 6, initial_checkpoint={"path": path, **more}, **changes)
        ends[name] = run_checkpoint.open_run(tmp_path / f"from_{name}")
        assert ends[name].step == 6
    assert "starting at step 4 from T5X checkpoint" in capsys.readouterr().err
    assert_same(ends["ours"], ends["t5x"], slots=True)
    # Hugging Face folders hold no slots: the second moments are others.
    moment = "token_embedder/embedding", "v"
    assert not np.array_equal(ends["hf"].read_slot(*moment), ends["t5x"].read_slot(*moment))


def test_steps_count_from_the_initial_checkpoint(tmp_path, tiny_data_dir):
    train_run(tmp_path / "first", tiny_data_dir, 4)
    start = dict(initial_checkpoint={"path": str(tmp_path / "first")})
    with pytest.raises(UserError, match="TRAIN_STEPS=4 includes the 4 steps .* give --gin.TRAIN_STEPS=8"):
        train_run(tmp_path / "no", tiny_data_dir, 4, **start)
    train_run(tmp_path / "second", tiny_data_dir, 4, train_steps_relative=2, **start)
    assert run_checkpoint.open_run(tmp_path / "second").step == 6
    # Stopped and started again, the count stays; the initial checkpoint is not asked for any more.
    train_run(tmp_path / "second", tiny_data_dir, 4, train_steps_relative=4, initial_checkpoint={"path": "/gone"})
    assert run_checkpoint.open_run(tmp_path / "second").step == 8


def test_the_step_of_a_checkpoint_that_does_not_tell(tmp_path, tiny_data_dir):
    train_run(tmp_path / "first", tiny_data_dir, 4)
    hf = convert.convert(str(tmp_path / "first"), tmp_path / "hf", "hf")
    start = dict(initial_checkpoint={"path": str(hf)})
    with pytest.raises(UserError, match="does not tell its step.*--gin.INITIAL_STEP=1000000"):
        train_run(tmp_path / "run", tiny_data_dir, 6, **start)
    train_run(tmp_path / "run", tiny_data_dir, 6, train_steps_relative=2, **start)
    assert run_checkpoint.open_run(tmp_path / "run").step == 2


def test_a_new_run_starts_from_the_initial_parameters(tmp_path, tiny_data_dir):
    train_run(tmp_path / "first", tiny_data_dir, 4)
    found = run_checkpoint.open_run(tmp_path / "first")
    like = init_state(found.architecture(), optimizers.adamw(lambda _: 1.0), 9)
    assert isinstance(like, TrainState)
    params = parameters_like(found, like.params)
    for name, leaf in named_leaves(params).items():
        np.testing.assert_array_equal(leaf, found.read(name))
