"""Packing and batches, on token caches written by hand."""

import json
import shutil

import numpy as np
import pytest

from explainft.data import Batches, check_lengths, pack
from explainft.errors import UserError
from explainft.token_cache import TokenCache
from explainft.vocab import COMPACT

ROW = {"inputs": 30, "targets": 50}


def write_cache(folder, inputs, targets):
    """The files of a token cache as token_cache writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    for feature, rows in (("inputs", inputs), ("targets", targets)):
        np.save(folder / f"{feature}.npy", np.concatenate(rows).astype(np.int32))
        np.save(folder / f"{feature}_starts.npy", np.cumsum([0, *map(len, rows)]))
    meta = {
        "format": 1,
        "task": "a_task",
        "split": "train",
        "extra_ids": 0,
        "postprocess": None,
        "metrics": [],
        "sources": {},
    }
    (folder / "meta.json").write_text(json.dumps(meta))
    (folder / "records.jsonl").write_text("")
    shutil.copy(COMPACT, folder / "vocabulary.model")
    return TokenCache(folder)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    rng = np.random.default_rng(0)
    n = 200
    inputs = [np.append(rng.integers(3, 150, rng.integers(2, 20)), 1) for _ in range(n)]
    targets = [np.append(rng.integers(3, 150, rng.integers(1, 45)), 1) for _ in range(n)]
    return write_cache(tmp_path_factory.mktemp("tokens"), inputs, targets)


def examples_of(batch):
    """Every example of a batch, as pairs of tuples, read off with plain loops."""
    found = []
    for row in range(len(batch["encoder_input_tokens"])):
        for segment in range(1, batch["decoder_segment_ids"][row].max() + 1):
            inputs = batch["encoder_input_tokens"][row][batch["encoder_segment_ids"][row] == segment]
            targets = batch["decoder_target_tokens"][row][batch["decoder_segment_ids"][row] == segment]
            decoder_inputs = batch["decoder_input_tokens"][row][batch["decoder_segment_ids"][row] == segment]
            assert decoder_inputs.tolist() == [0, *targets[:-1].tolist()]
            found.append((tuple(inputs.tolist()), tuple(targets.tolist())))
        for side, tokens in (("encoder", "encoder_input_tokens"), ("decoder", "decoder_target_tokens")):
            assert ((batch[f"{side}_segment_ids"][row] == 0) == (batch[tokens][row] == 0)).all()
        assert (batch["decoder_input_tokens"][row][batch["decoder_segment_ids"][row] == 0] == 0).all()
    return found


def all_examples(cache):
    return sorted((tuple(cache.inputs[i].tolist()), tuple(cache.targets[i].tolist())) for i in range(len(cache)))


@pytest.mark.parametrize("packed", [True, False])
def test_an_epoch_holds_every_example_once_and_whole(cache, packed):
    batches = Batches(cache, ROW, batch_size=7, seed=3, packed=packed)
    found = [example for i in range(batches.epoch_batches()) for example in examples_of(batches.ordered(i))]
    assert sorted(found) == all_examples(cache)


def test_training_batches_go_through_the_rows_epoch_by_epoch_in_new_orders(cache):
    batches = Batches(cache, ROW, batch_size=7, seed=3, packed=True)
    rows = len(batches.packing)
    stream = [row.tobytes() for step in range(-(-3 * rows // 7)) for row in batches[step]["decoder_target_tokens"]]
    epochs = [stream[e * rows : (e + 1) * rows] for e in range(3)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(epochs[2])
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_a_batch_is_a_function_of_seed_and_step(cache):
    def batch(seed, step):
        return Batches(cache, ROW, batch_size=7, seed=seed, packed=True)[step]

    used = Batches(cache, ROW, batch_size=7, seed=3, packed=True)
    for step in (90, 0, 17):  # out of order, as after a restart
        for name, array in batch(3, step).items():
            np.testing.assert_array_equal(used[step][name], array)
    assert any((batch(3, 0)[name] != batch(4, 0)[name]).any() for name in batch(3, 0))


def test_batches_in_order_keep_the_order(cache):
    batches = Batches(cache, ROW, batch_size=7, seed=0, packed=False)
    found = [example for i in range(batches.epoch_batches()) for example in examples_of(batches.ordered(i))]
    assert found == [(tuple(cache.inputs[i].tolist()), tuple(cache.targets[i].tolist())) for i in range(200)]


def test_packing_fills_rows():
    rng = np.random.default_rng(0)
    n_inputs, n_targets = rng.integers(8, 25, 20_000), rng.integers(10, 60, 20_000)
    packing = pack(n_inputs, n_targets, 96, 192, seed=0)
    assert sorted(packing.examples.tolist()) == list(range(20_000))
    for lengths, room in ((n_inputs, 96), (n_targets, 192)):
        per_row = np.add.reduceat(lengths[packing.examples], packing.starts[:-1])
        assert per_row.max() <= room
    filled = max(n_inputs.sum() / 96, n_targets.sum() / 192)
    assert filled / len(packing) > 0.9  # of the scarcer feature's places


def test_examples_longer_than_their_row_are_counted_never_cut(cache):
    longest = int(cache.targets.lengths.max())
    over = int((cache.targets.lengths > 40).sum())
    with pytest.raises(
        UserError, match=rf"targets=40 is too short for {over} of 200 examples of a_task/train; {longest} holds"
    ):
        Batches(cache, {"inputs": 30, "targets": 40}, 4, 0, packed=True)
    check_lengths(cache, {"inputs": 30, "targets": longest})
    for wrong in ({"inputs": 30}, 3, {"inputs": 30, "targets": 50, "labels": 1}):
        with pytest.raises(UserError, match="must give the lengths of 'inputs' and 'targets'"):
            check_lengths(cache, wrong)
    with pytest.raises(UserError, match="TASK_FEATURE_LENGTHS of targets='50' must be a whole number"):
        check_lengths(cache, {"inputs": 30, "targets": "50"})
