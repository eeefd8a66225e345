import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

import explainft
from explainft import listops
from explainft.core.errors import UserError
from explainft.data import dataset
from explainft.data.dataset import ExplainedListops, ListopsConfig, build, show
from explainft.listops.configs import CHUNK, CONFIGS, SPLITS, Config, candidates
from tasks.sources import ExplainedListopsSource

SIZES = {split: 60 for split in SPLITS} | {"train": 900}


@pytest.fixture(scope="module", autouse=True)
def small_tiny():
    """The published `tiny`, cut to the first examples of each split."""
    config = ExplainedListops.builder_configs["tiny"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "train_examples", SIZES["train"])
        patch.setattr(config, "eval_examples", SIZES["test"])
        yield


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """`tiny` in one file for each split, by one process; the folder that holds all datasets."""
    data_dir = tmp_path_factory.mktemp("data")
    assert build("tiny", str(data_dir), processes=1) == data_dir / "explained_listops/tiny/1.0.0"
    return data_dir


def stream_in_full(config: str) -> dict[str, list[str]]:
    """What the splits must hold: every candidate's text and hash looked at in turn."""
    splits: dict[str, list[str]] = {split: [] for split in SPLITS}
    for stream in ("train", "longer", "larger_numbers"):
        # The small splits get about one candidate of fifty each.
        trees = [tree for chunk in range(60 * 51 * 2 // CHUNK) for tree in candidates(CONFIGS[config], stream, chunk)]
        for text in dict.fromkeys(map(listops.format, trees)):
            part = int(hashlib.blake2b(text.encode(), digest_size=8).hexdigest(), 16) % 102
            shared = "train" if part < 98 else "validation" if part < 100 else "test"
            splits[shared if stream == "train" else stream].append(text)
    return {split: texts[: SIZES[split]] for split, texts in splits.items()}


def expressions(examples: tf.data.Dataset) -> list[str]:
    return [text.decode() for text in examples.map(lambda example: example["expression"]).as_numpy_iterator()]


def record_bytes(folder: Path, split: str) -> bytes:
    """The files of a split, one after the other: TFRecord files can be joined."""
    files = sorted(folder.glob(f"*-{split}.tfrecord-*"))
    assert files
    return b"".join(file.read_bytes() for file in files)


def test_splits_hold_the_first_of_their_streams_in_order(built):
    expected = stream_in_full("tiny")
    for split in SPLITS:
        assert len(expected[split]) == SIZES[split]
        assert expressions(tfds.load("explained_listops/tiny", split=split, data_dir=built)) == expected[split]


def test_no_expression_is_in_two_splits_or_twice_in_one(built):
    examples = tfds.load("explained_listops/tiny", data_dir=built)
    texts = [text for split in SPLITS for text in expressions(examples[split])]
    assert len(texts) == sum(SIZES.values()) == len(set(texts))


def test_duplicates_are_dropped_and_full_splits_take_no_more():
    keyed = [(102 + 98, b"a"), (0, b"b"), (102 + 98, b"a"), (1, b"c"), (2, b"d"), (101, b"e"), (99, b"f"), (100, b"g")]
    dealt = dataset.deal("train", {"train": 2, "validation": 2, "test": 1}, keyed)
    assert list(dealt) == [("validation", b"a"), ("train", b"b"), ("train", b"c"), ("test", b"e"), ("validation", b"f")]


def test_a_set_of_digests_is_a_set(monkeypatch):
    monkeypatch.setattr(dataset.DigestSet, "NEWEST", 100)
    rng = random.Random(0)
    digests, seen = dataset.DigestSet(), set()
    for digest in [0, 2**64 - 1, 0, *(rng.choice([rng.randrange(2**64), rng.randrange(500)]) for _ in range(3_000))]:
        assert digests.add(digest) == (digest not in seen)
        seen.add(digest)


def test_a_set_of_digests_takes_little_memory(monkeypatch):
    monkeypatch.setattr(dataset.DigestSet, "NEWEST", 2**10)
    n = 100_000
    tracemalloc.start()
    digests = dataset.DigestSet()
    for i in range(n):
        digests.add(i * 0x9E3779B97F4A7C15 % 2**64)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak / n < 24  # bytes each: two arrays while a larger one is made, and the newest


def test_other_sizes_hold_the_same_examples(built, tmp_path):
    """More or fewer training examples: the first ones are the same, and so are the other splits."""
    for size in (700, 1_300):
        folder = build(f"tiny-{size}", str(tmp_path), processes=1)
        assert folder == tmp_path / f"explained_listops/tiny-{size}/1.0.0"
        examples = tfds.load(f"explained_listops/tiny-{size}", data_dir=tmp_path)
        train = expressions(examples["train"])
        assert len(train) == len(set(train)) == size
        published = expressions(tfds.load("explained_listops/tiny", split="train", data_dir=built))
        shared = min(size, len(published))
        assert train[:shared] == published[:shared]
        for split in SPLITS[1:]:
            same = expressions(tfds.load("explained_listops/tiny", split=split, data_dir=built))
            assert expressions(examples[split]) == same
    assert show("tiny-700", "train", 1, str(tmp_path)).replace("tiny-700", "tiny") == show(
        "tiny", "train", 1, str(built)
    )
    with pytest.raises(UserError, match="tiny-900 is not built in .*; run: explainft data build --config tiny-900 "):
        show("tiny-900", "train", 1, str(tmp_path))


def test_a_task_over_another_size(tmp_path):
    build("tiny-300", str(tmp_path), processes=1)
    source = ExplainedListopsSource("tiny-300", {"train": "train"})
    seqio.set_tfds_data_dir_override(str(tmp_path))
    try:
        assert source.num_input_examples("train") == len(list(source.get_dataset("train"))) == 300
        with pytest.raises(UserError, match="run: explainft data build --config tiny-301 "):
            ExplainedListopsSource("tiny-301", {"train": "train"}).num_input_examples("train")
    finally:
        seqio.set_tfds_data_dir_override(None)


def test_fields(built):
    for split, example in tfds.as_numpy(tfds.load("explained_listops/tiny", data_dir=built)).items():
        for row in example:
            tree = listops.parse(row["expression"].decode())
            assert row["expression"].decode() == listops.format(tree)
            assert row["answer"] == listops.evaluate(tree)
            assert row["length"] == listops.length(tree)
            assert row["depth"] == listops.depth(tree)
            steps = listops.steps(tree, "short")
            assert row["operators"].decode().split(" ") == [step.operator for step in steps]
            assert set(row["explanation"]) == {"short", "medium", "long"}
            for style, text in row["explanation"].items():
                assert listops.check(text.decode(), tree, style).valid, (split, text)
                assert text.decode() == listops.explain(tree, style)


def test_the_modulus_of_the_config_is_used():
    sampler = CONFIGS["tiny"].train
    config = Config("hundred", sampler, sampler, sampler, modulus=100)
    row = dataset.example(config, listops.parse("[SUM 70 50 8 ]"))
    assert row["answer"] == 28
    assert all(text.endswith("28") for text in row["explanation"].values())


def test_records_are_those_of_tfds():
    features = ExplainedListops(config="listops30", data_dir="/nonexistent").info.features
    for tree in candidates(CONFIGS["listops30"], "longer", 0)[:20]:
        example = dataset.example(CONFIGS["listops30"], tree)
        theirs = features.serialize_example(features.encode_example(example))
        assert tf.train.Example.FromString(dataset.serialize(example)) == tf.train.Example.FromString(theirs)


@pytest.mark.parametrize(("processes", "shards"), [(1, 7), (2, 1), (2, 4)])
def test_processes_and_files_change_nothing(built, tmp_path, processes, shards):
    folder = build("tiny", str(tmp_path), processes, shards)
    for split in SPLITS:
        assert len(list(folder.glob(f"*-{split}.tfrecord-*-of-{shards:05d}"))) == shards
        assert record_bytes(folder, split) == record_bytes(built / "explained_listops/tiny/1.0.0", split)
    readable = tfds.builder_from_directory(str(folder))
    assert {split: readable.info.splits[split].num_examples for split in SPLITS} == SIZES
    for split, size in SIZES.items():  # TFDS counts the records without the 16 bytes of framing of each.
        assert readable.info.splits[split].num_bytes == len(record_bytes(folder, split)) - 16 * size
    in_order = tfds.ReadConfig(interleave_cycle_length=1)
    read = expressions(readable.as_dataset(split="train", read_config=in_order))
    assert read == expressions(tfds.load("explained_listops/tiny", split="train", data_dir=built))


def test_seqio_reads_in_order_and_shuffled(built):
    source = seqio.TfdsDataSource("explained_listops/tiny:1.0.0", tfds_data_dir=str(built))
    expected = expressions(tfds.load("explained_listops/tiny", split="test", data_dir=built))
    assert expressions(source.get_dataset("test", shuffle=False)) == expected
    assert sorted(expressions(source.get_dataset("test", shuffle=True, seed=1))) == sorted(expected)
    assert source.num_input_examples("train") == SIZES["train"]


def test_published_sizes():
    published = [config for config in ExplainedListops.BUILDER_CONFIGS if config.name != "tiny"]  # which is cut above
    sizes = [(config.train_examples, config.eval_examples) for config in published]
    assert sizes == [(98_000, 2_000)] * (len(CONFIGS) - 1)
    assert [config.name for config in ExplainedListops.BUILDER_CONFIGS] == list(CONFIGS)
    default = ListopsConfig(name="any", listops=CONFIGS["tiny"])
    assert (default.train_examples, default.eval_examples) == (98_000, 2_000)


def test_a_second_build_says_so_and_writes_nothing(built, capfd):
    folder = built / "explained_listops/tiny/1.0.0"
    before = {path: path.stat().st_mtime_ns for path in built.rglob("*")}
    assert build("tiny", str(built)) == folder
    assert {path: path.stat().st_mtime_ns for path in built.rglob("*")} == before
    assert capfd.readouterr().err == f"{folder} is already built\n"


def test_the_slower_of_two_builds_at_once_has_the_faster_one_s_dataset(built, tmp_path, monkeypatch):
    info = dataset.SplitWriter.info

    def when_the_other_has_ended(writer):
        shutil.copytree(built, tmp_path, dirs_exist_ok=True)
        return info(writer)

    monkeypatch.setattr(dataset.SplitWriter, "info", when_the_other_has_ended)
    folder = build("tiny", str(tmp_path), processes=1)
    assert folder == tmp_path / "explained_listops/tiny/1.0.0"
    assert list(folder.parent.iterdir()) == [folder]
    assert "tiny/test 0" in show("tiny", "test", 1, str(tmp_path))


def test_a_build_is_quiet_without_a_terminal(tmp_path, capfd):
    build("tiny", str(tmp_path), processes=1)
    output = capfd.readouterr()
    assert output.out == ""
    assert "examples" not in output.err


def test_beam_is_asked_for_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    monkeypatch.delitem(sys.modules, "explainft.data.beam_build", raising=False)
    monkeypatch.delattr(explainft, "beam_build", raising=False)
    with pytest.raises(UserError, match=r"a build on Beam needs apache_beam; run: pip install 'explainft\[beam\]'"):
        build("tiny", str(tmp_path), beam_pipeline_options="")


def test_a_failed_build_leaves_no_dataset(tmp_path, monkeypatch):
    calls = iter(range(1_000))

    def fail_in_the_middle(features):
        if next(calls) == 500:
            raise RuntimeError("out of luck")
        return b"record"

    monkeypatch.setattr(dataset, "serialize", fail_in_the_middle)
    with pytest.raises(RuntimeError, match="out of luck"):
        build("tiny", str(tmp_path), processes=1)
    assert list((tmp_path / "explained_listops/tiny").iterdir()) == []
    monkeypatch.undo()
    assert build("tiny", str(tmp_path), processes=1).is_dir()


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def no_space(self, record):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device\n(twice)")

    monkeypatch.setattr(tf.io.TFRecordWriter, "write", no_space)
    with pytest.raises(UserError, match=f"^cannot write the dataset to {tmp_path}: No space left on device; choose"):
        build("tiny", str(tmp_path), processes=1)
    assert list((tmp_path / "explained_listops/tiny").iterdir()) == []


def test_importing_the_module_does_without_tensorflow():
    code = "import sys, explainft.data.dataset; print('tensorflow' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert output.stdout == "False\n"


def environment() -> dict[str, str]:
    """For a process that imports the same explainft as this one."""
    path = os.pathsep.join([str(Path(dataset.__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PYTHONPATH": path}


BUILD_OF_FULL_SIZE = """
import sys
from explainft.data.dataset import build
if __name__ == "__main__":
    build("tiny", sys.argv[1], processes=2)
"""


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes under /proc")
def test_a_killed_worker_is_told_in_one_line(tmp_path):
    command = [sys.executable, "-m", "explainft.cli.main", "data", "build", "--config", "tiny", "--processes", "2"]
    process = subprocess.Popen(
        [*command, "--tfds_data_dir", tmp_path], env=environment(), text=True, stderr=subprocess.PIPE
    )
    wait_until(lambda: list(tmp_path.glob("explained_listops/tiny/*/*-train.tfrecord*")))
    workers = [pid for pid in children(process.pid) if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]
    os.kill(workers[0], signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == 2
    assert errors.splitlines()[-1].startswith("explainft: error: one of 2 worker processes was killed")
    assert "Traceback" not in errors
    assert not (tmp_path / "explained_listops/tiny/1.0.0").exists()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes under /proc")
def test_a_killed_build_leaves_no_dataset_and_no_process(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(BUILD_OF_FULL_SIZE)
    process = subprocess.Popen([sys.executable, script, tmp_path], env=environment())
    try:
        wait_until(lambda: list(tmp_path.glob("explained_listops/tiny/*/*-train.tfrecord*")))
        workers = children(process.pid)
        assert len(workers) >= 2
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "explained_listops/tiny/1.0.0").exists()
    wait_until(lambda: not any(running(worker) for worker in workers))
    with pytest.raises(UserError, match="not built"):
        show("tiny", "test", 1, str(tmp_path))


def wait_until(condition, seconds: float = 60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain"
        time.sleep(0.05)


def test_show(built):
    text = show("tiny", "longer", 2, str(built))
    rows = list(tfds.as_numpy(tfds.load("explained_listops/tiny", split="longer", data_dir=built).take(2)))
    assert text.count("--- tiny/longer") == 2
    for index, row in enumerate(rows):
        title = f"--- tiny/longer {index}: answer {row['answer']}, length {row['length']}, depth {row['depth']}\n"
        assert title + row["expression"].decode() + "\nshort:\n" in text
        for style, explanation in row["explanation"].items():
            assert f"{style}:\n{explanation.decode()}\n" in text
    assert "\n├─ " in text


def test_show_stays_in_order_over_several_files(built, tmp_path):
    build("tiny", str(tmp_path), processes=1, shards=2)  # 30 examples in each: TFDS would change files after 16
    assert show("tiny", "test", 40, str(tmp_path)) == show("tiny", "test", 40, str(built))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: build("tinny", d), "unknown config 'tinny'; did you mean 'tiny'"),
        (lambda d: build("tiny-0", d), "unknown config 'tiny-0'; did you mean 'tiny'"),
        (lambda d: build("tiny-1e6", d), "unknown config 'tiny-1e6'"),
        (lambda d: build("tiny-9", d, shards=10), "shards=10 must be at most 9"),
        (lambda d: build("tiny", d, processes=2, beam_pipeline_options=""), "processes=2 is for a build without Beam"),
        (lambda d: build("tiny", d, processes=0), "processes=0 must be at least 1"),
        (lambda d: build("tiny", d, shards=0), "shards=0 must be at least 1"),
        (lambda d: build("tiny", d, shards=61), "shards=61 must be at most 60"),
        (lambda d: build("tiny", f"{d}/file/below"), "cannot write the dataset to .*file.*: .*; choose another folder"),
        (lambda d: show("tinny", "test", 1, d), "unknown config 'tinny'; did you mean 'tiny'"),
        (lambda d: show("tiny", "tests", 1, d), "unknown split 'tests'; did you mean 'test'"),
        (lambda d: show("tiny", "test", 0, d), "n=0 must be at least 1"),
        (
            lambda d: show("tiny", "test", 1, d),
            "tiny is not built in .*; run: explainft data build --config tiny --tfds_data_dir /",
        ),
    ],
)
def test_mistakes_of_the_user(tmp_path, call, message):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=message) as error:
        call(str(tmp_path))
    assert "\n" not in str(error.value)
    assert not list(tmp_path.rglob("*.tfrecord*"))


def test_a_folder_that_is_no_dataset_is_named(tmp_path):
    (tmp_path / "explained_listops/tiny/1.0.0").mkdir(parents=True)
    with pytest.raises(UserError, match="1.0.0 is there but holds no dataset; remove it"):
        build("tiny", str(tmp_path))


def test_the_command_that_builds():
    assert dataset.build_command("tiny", None) == "explainft data build --config tiny"
    assert dataset.build_command("tiny", "/data") == "explainft data build --config tiny --tfds_data_dir /data"
