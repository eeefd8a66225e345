"""What a run survives: corrupt checkpoints."""

import os
import random
import re
import shutil

import jax
import numpy as np
import pytest

from explainft.checkpoints import export, integrity, run_checkpoint
from explainft.checkpoints.checkpointer import CheckpointConfig, Checkpointer
from explainft.core.errors import UserError
from explainft.model.parameters import named_leaves
from explainft.training import optimizers
from explainft.training.run_directory import RunDirectory
from explainft.training.train_state import abstract_state
from tests.survival import victim
from tests.survival.runs import RATE, assert_same_end, run

# Minutes of processes that are killed, and file systems that fill up: `make survival` runs them, and the 100 kills.
pytestmark = pytest.mark.slow


def largest(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def flip(file, place, bit=0):
    content = bytearray(file.read_bytes())
    content[place] ^= 1 << bit
    file.write_bytes(content)


def flip_in_arrays(item):
    """A bit in the middle of each long compressed piece; the index, which has checksums of its own, lies elsewhere."""
    for file in (item / "ocdbt.process_0" / "d").iterdir():
        content = file.read_bytes()
        starts = [match.start() for match in re.finditer(re.escape(b"\x28\xb5\x2f\xfd"), content)]
        for start, end in zip(starts, [*starts[1:], len(content)], strict=True):
            if end - start > 2000:
                flip(file, (start + end) // 2)


def halve(folder):
    for file in sorted(path for path in folder.rglob("*") if path.is_file())[::2]:
        file.unlink()


def change_meta(folder):
    meta = folder / "meta" / "metadata"
    meta.write_text(meta.read_text().replace('"examples": ', '"examples": 1'))


DAMAGE = {
    "truncated": (lambda folder: os.truncate(largest(folder / "params" / "d"), 1000), "unreadable"),
    "a bit of the parameters": (lambda folder: flip_in_arrays(folder / "params"), "wrong checksum of params/"),
    "a bit of the optimizer": (
        lambda folder: flip_in_arrays(folder / "opt_state"),
        "wrong checksum of opt_state/",
    ),
    "half deleted": (halve, ""),
    "empty": (lambda folder: (shutil.rmtree(folder), folder.mkdir()), "was not found"),
    "meta": (change_meta, "wrong checksum of meta"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_corrupt_checkpoint_is_named_and_the_one_before_it_used(
    kind, copy, undisturbed, tiny_data_dir, capsys, monkeypatch
):
    damage, words = DAMAGE[kind]
    folder = copy / "checkpoints"
    damage(folder / "checkpoint_10")
    resumed = []
    monkeypatch.setattr(RunDirectory, "truncate_after", lambda _, step, **__: resumed.append(step))
    run(copy, tiny_data_dir)
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"checkpoint 10 in {folder} is corrupt (") and words in line
    assert line.endswith("): resuming from checkpoint 8")
    assert resumed == [8]
    assert_same_end(copy, undisturbed, but=["metrics"])
    assert (folder / "corrupt_checkpoint_10").is_dir()


def test_where_all_are_corrupt_the_run_ends_and_leaves_them(copy, tiny_data_dir, capsys):
    for step in (10, 8, 4):
        change_meta(copy / "checkpoints" / f"checkpoint_{step}")
    with pytest.raises(UserError, match=r"checkpoint 4 in .* is corrupt \(wrong checksum of meta\); choose another"):
        run(copy, tiny_data_dir)
    assert [line.split(" in ")[0] for line in capsys.readouterr().err.splitlines()] == ["checkpoint 10", "checkpoint 8"]
    assert sorted(os.listdir(copy / "checkpoints")) == ["checkpoint_10", "checkpoint_4", "checkpoint_8"]


def test_no_flipped_bit_goes_unnoticed(copy, undisturbed, capsys):
    """Anywhere in the newest checkpoint: what is restored is what was saved, at its step or at the one before."""
    folder = copy / "checkpoints"
    tx = optimizers.adamw(RATE(train_steps=10))
    mesh = jax.make_mesh((1, 1), ("data", "model"))
    like = abstract_state(victim.MODEL, tx, mesh)
    meta = integrity.with_digest(run_checkpoint.open_run(undisturbed).meta)
    truth = {}
    rng = random.Random(0)
    files = sorted(path for path in (folder / "checkpoint_10").rglob("*") if path.stat().st_size and path.is_file())
    weights = [path.stat().st_size for path in files]
    used = []
    for i in range(41):
        if i:  # the first time nothing is corrupt
            file = rng.choices(files, weights if i % 2 else None)[0]
            whole = file.read_bytes()
            flip(file, rng.randrange(len(whole)), rng.randrange(8))
        with Checkpointer(copy, CheckpointConfig(keep=None), meta) as checkpointer:
            restored = named_leaves(checkpointer.restore(like.params, like.opt_state))
            used.append(checkpointer.latest)
        found = {name: np.asarray(leaf).tobytes() for name, leaf in restored.items()}
        assert truth.setdefault(checkpointer.latest, found) == found
        if i:
            if checkpointer.latest == 8:
                (folder / "corrupt_checkpoint_10").rename(folder / "checkpoint_10")
            file.write_bytes(whole)
    assert used[0] == 10 and used.count(8) > 10
    assert len(capsys.readouterr().err.splitlines()) == used.count(8)


def test_readers_name_the_corrupt_array(copy):
    flip_in_arrays(copy / "checkpoints" / "checkpoint_10" / "params")
    found = run_checkpoint.open_run(copy)
    with pytest.raises(UserError, match=r"checkpoint 10 in .* is corrupt \(wrong checksum of params/.*choose another"):
        found.tree()
    run_checkpoint.open_run(copy, 8).tree()
    export.export_run(copy, copy / "small", 8, "bfloat16")  # which has checksums of its own
    run_checkpoint.open_run(copy / "small").tree()
    flip_in_arrays(copy / "small" / "checkpoints" / "checkpoint_8" / "params")
    with pytest.raises(UserError, match="checkpoint 8 in .* is corrupt"):
        run_checkpoint.open_run(copy / "small").tree()
