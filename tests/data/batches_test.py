"""Packing and batches, on hand-written token caches."""

import itertools
import json
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from explainft.core.errors import UserError
from explainft.data import batches, freshness, ragged
from explainft.data.batches import ROW_END, WAITING, Batches, check_lengths, pack
from explainft.data.compact_vocabulary import COMPACT
from explainft.data.token_cache import TokenCache

ROW = {"inputs": 30, "targets": 50}


def write_cache(directory, inputs, targets, **features):
    """Writes the files of a token cache."""
    directory.mkdir(parents=True, exist_ok=True)
    for feature, rows in {"inputs": inputs, "targets": targets, **features}.items():
        with ragged.writer(directory, feature) as write:
            for row in rows:
                write(row, np.array([len(row)]))
    add_meta(directory)
    return TokenCache(directory)


def add_meta(directory):
    meta = {
        "format": freshness.FORMAT,
        "task": "a_task",
        "split": "train",
        "extra_ids": 0,
        "replacement": False,
        "postprocess": None,
        "next_input": None,
        "metrics": [],
        "sources": {},
    }
    (directory / "meta.json").write_text(json.dumps(meta))
    (directory / "records.jsonl").write_text("")
    shutil.copy(COMPACT, directory / "vocabulary.model")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    rng = np.random.default_rng(0)
    n = 200
    inputs = [np.append(rng.integers(3, 150, rng.integers(2, 20)), 1) for _ in range(n)]
    targets = [np.append(rng.integers(3, 150, rng.integers(1, 45)), 1) for _ in range(n)]
    return write_cache(tmp_path_factory.mktemp("tokens"), inputs, targets)


def examples_of(batch):
    """Returns every example of a batch as a pair of tuples, by plain loops."""
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
def test_epoch_has_every_example_once(cache, packed):
    batches = Batches(cache, ROW, batch_size=7, seed=3, packed=packed)
    found = [example for i in range(batches.epoch_batches()) for example in examples_of(batches.ordered(i))]
    assert sorted(found) == all_examples(cache)


def test_each_epoch_has_a_new_order(cache):
    batches = Batches(cache, ROW, batch_size=7, seed=3, packed=True)
    rows = len(batches.packing)
    stream = [row.tobytes() for step in range(-(-3 * rows // 7)) for row in batches[step]["decoder_target_tokens"]]
    epochs = [stream[e * rows : (e + 1) * rows] for e in range(3)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(epochs[2])
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_batch_depends_on_seed_and_step_alone(cache):
    def batch(seed, step):
        return Batches(cache, ROW, batch_size=7, seed=seed, packed=True)[step]

    used = Batches(cache, ROW, batch_size=7, seed=3, packed=True)
    for step in (90, 0, 17):  # out of order, as after a restart
        for name, array in batch(3, step).items():
            np.testing.assert_array_equal(used[step][name], array)
    assert any((batch(3, 0)[name] != batch(4, 0)[name]).any() for name in batch(3, 0))


def test_ordered_batches_keep_order(cache):
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
    assert filled / len(packing) > 0.98  # of the positions of the scarcer feature


@pytest.mark.parametrize(("row_inputs", "row_targets"), [(30, 50), (24, 200), (97, 64), (400, 400)])
def test_row_end_takes_the_best_fit(row_inputs, row_targets):
    """Repeats every choice over all waiting pairs: the first that fits, and at the row's end the largest pair."""
    rng = np.random.default_rng(0)
    n_inputs, n_targets = rng.integers(2, 25, 700), rng.integers(1, 50, 700)
    packing = pack(n_inputs, n_targets, row_inputs, row_targets, seed=5)

    def size(examples):
        return n_inputs[examples].sum() / row_inputs + n_targets[examples].sum() / row_targets

    def fit(examples):
        return n_inputs[examples].sum() <= row_inputs and n_targets[examples].sum() <= row_targets

    order = np.random.default_rng([5, 0]).permutation(700).tolist()
    waiting, coming = order[:WAITING], order[WAITING:]
    for start, stop in itertools.pairwise(packing.starts):
        row = packing.examples[start:stop].tolist()
        assert row[0] == waiting[0]
        done = 1
        while fitting := [[i] for i in waiting if i not in row[:done] and fit([*row[:done], i])]:
            if 2 - size(row[:done]) < ROW_END * size(np.arange(700)) / 700:
                pairs = [[i, j] for [i], [j] in itertools.combinations(fitting, 2) if fit([*row[:done], i, j])]
                assert size(row[done : done + 2]) == pytest.approx(max(map(size, fitting + pairs)))
                done += 2
            else:
                assert [row[done]] == fitting[0]
                done += 1
        assert done in (len(row), len(row) + 1) and fit(row)  # the last choice may be one example
        waiting = [i for i in waiting if i not in row] + coming[: len(row)]
        coming = coming[len(row) :]
    assert not waiting


def test_packing_takes_80_bytes_an_example(monkeypatch):
    monkeypatch.setattr(batches, "PACK_BLOCK", 2**12)
    n = 60_000
    rng = np.random.default_rng(0)
    n_inputs, n_targets = rng.integers(8, 25, n), rng.integers(300, 400, n)
    tracemalloc.start()
    packing = pack(n_inputs, n_targets, 96, 1024, seed=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(packing.examples) == n
    assert peak / n < 80  # bytes an example; lists of Python integers take 120


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory under /proc")
def test_memory_does_not_grow_with_tokens_read(tmp_path):
    """Compares epochs of 10 and of 100 MB of tokens, each in a new process."""

    def peak_kb(n):
        rng = np.random.default_rng(0)
        for feature, length in (("inputs", 25), ("targets", 100)):
            (tmp_path / str(n)).mkdir(exist_ok=True)
            with ragged.writer(tmp_path / str(n), feature) as write:
                write(rng.integers(3, 150, n * length), np.full(n, length))
        add_meta(tmp_path / str(n))
        program = (
            "import sys; from pathlib import Path; from explainft.data.batches import Batches, TokenCache; "
            "batches = Batches(TokenCache(Path(sys.argv[1])), {'inputs': 25, 'targets': 100}, 500, 0, packed=False); "
            "assert max(len(batches[step]) for step in range(batches.epoch_batches())) == 5; "
            "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
        )
        command = [sys.executable, "-c", program, tmp_path / str(n)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert peak_kb(200_000) - peak_kb(20_000) < 30_000


def test_sequences_span_several_files_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(ragged, "SHARD_TOKENS", 40)
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 2**31, rng.integers(0, 12)) for _ in range(99)]
    with ragged.writer(tmp_path, "inputs") as write:
        for first in range(0, len(rows), 3):
            some = rows[first : first + 3]
            write(np.concatenate(some), np.array([len(row) for row in some]))
    sizes = [file.stat().st_size // 4 for file in sorted(tmp_path.glob("inputs-*.tokens"))]
    assert len(sizes) > 10 and max(sizes) <= 40 and sum(sizes) == sum(map(len, rows))
    read = ragged.Ragged(tmp_path, "inputs")
    assert read.lengths.tolist() == [len(row) for row in rows]
    assert [read[i].tolist() for i in range(len(read))] == [row.tolist() for row in rows]
    which = rng.permutation(99)
    tokens, lengths = read.take(which)
    assert lengths.tolist() == [len(rows[i]) for i in which]
    assert tokens.tolist() == np.concatenate([rows[i] for i in which]).tolist()


@pytest.mark.parametrize("packed", [True, False])
def test_split_without_examples_has_no_batches(tmp_path, packed):
    with pytest.raises(UserError, match="split 'train' of a_task has no examples; name a task that has some"):
        Batches(write_cache(tmp_path, [], []), ROW, 4, 0, packed=packed)


def test_too_long_examples_are_counted_and_never_cut(cache):
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
    with pytest.raises(UserError, match="TASK_FEATURE_LENGTHS of targets='50' must be an integer"):
        check_lengths(cache, {"inputs": 30, "targets": "50"})
