"""Token caches made from the real tasks, and their use without TensorFlow."""

import functools
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from explainft import listops
from explainft.core.errors import UserError
from explainft.data import ragged, token_cache, tokenize
from explainft.data.compact_vocabulary import COMPACT

TASK = "explained_tiny_medium_compact"
EVAL_TASK = "explained_tiny_medium_eval_test_compact"


@pytest.fixture(scope="module")
def data_dir(tiny_data_dir):
    return tiny_data_dir


def test_tokens_decode_to_the_task_s_texts(data_dir):
    cache = token_cache.load(EVAL_TASK, "validation", data_dir=data_dir)
    records = cache.records
    assert len(cache) == len(records) == 40
    for i, record in enumerate(records):
        tree = listops.parse(record["expression"])
        assert cache.inputs[i][-1] == cache.targets[i][-1] == 1
        assert cache.vocabulary.decode(cache.inputs[i][:-1].tolist()) == listops.format(tree)
        assert cache.vocabulary.decode(cache.targets[i][:-1].tolist()) == listops.explain(tree, "medium")
        assert cache.inputs[i][:-1].tolist() == cache.vocabulary.encode(record["inputs_pretokenized"])


@pytest.mark.usefixtures("seqio_unchanged")
def test_shards_keep_the_task_s_order(data_dir, monkeypatch, tmp_path):
    monkeypatch.setenv("EXPLAINFT_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(ragged, "SHARD_TOKENS", 5_000)
    cache = token_cache.load(TASK, "train", data_dir=data_dir)
    assert (
        len(list(cache.directory.glob("targets-*.tokens"))) == 3
    )  # as many as batches of 256: each is more than a file
    seqio.set_tfds_data_dir_override(data_dir)
    rows = list(tfds.as_numpy(seqio.get_mixture_or_task(TASK).get_dataset(None, split="train", shuffle=False)))
    assert len(cache) == len(rows) == 600
    for i, row in enumerate(rows):
        assert cache.inputs[i].tolist() == row["inputs"].tolist()
        assert cache.targets[i].tolist() == row["targets"].tolist()


GROWTH = """
import sys
from pathlib import Path
import seqio
import tensorflow as tf
from explainft.data import token_cache
from explainft.data.compact_vocabulary import COMPACT

def add_task(n):
    def rows(split, shuffle_files=False, seed=None):
        lengths = tf.data.Dataset.range(n).map(lambda i: tf.cast(i % 10, tf.int32))
        return lengths.map(lambda i: {"inputs": tf.fill([50 + i], 3), "targets": tf.fill([400 + i], 4)})

    source = seqio.FunctionDataSource(rows, splits=["train"], num_input_examples={"train": n})
    features = {f: seqio.Feature(seqio.SentencePieceVocabulary(str(COMPACT), 0)) for f in ("inputs", "targets")}
    seqio.TaskRegistry.add(f"rows_{n}", source, preprocessors=[], output_features=features)

for n in (5_000, 50_000):
    add_task(n)
    cache = token_cache.load(f"rows_{n}", "train", "__main__")
    assert len(cache) == n
    [peak] = [line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line]
    print(peak)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory under /proc")
def test_memory_does_not_grow_with_the_number_of_examples(tmp_path):
    """In a process of its own: ten times the examples, 90 MB of tokens, with hardly more memory."""
    (tmp_path / "growth.py").write_text(GROWTH)
    environment = os.environ | {"EXPLAINFT_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, tmp_path / "growth.py"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    small, large = map(int, run.stdout.split())
    assert large - small < 40_000  # kB


def test_the_task_s_own_metrics_come_with_it(data_dir):
    cache = token_cache.load(EVAL_TASK, "validation", data_dir=data_dir)
    postprocess, [metric] = cache.postprocess(), cache.metrics()
    records = cache.records
    targets = [postprocess(r["targets_pretokenized"], example=r, is_target=True) for r in records]
    assert metric(targets, [r["targets_pretokenized"] for r in records])["valid"] == 1.0
    assert metric(targets, ["Final answer: 99"] * 40)["exact_match"] == 0.0


def test_a_warm_cache_needs_no_tensorflow(data_dir, cache_dir):
    token_cache.load(TASK, "train", data_dir=data_dir)
    mixture = "explained_tiny_medium_eval_compact"
    assert len(token_cache.task_names(mixture)) == 4
    program = (
        "import sys; from explainft.data import token_cache; "
        f"print(len(token_cache.load({TASK!r}, 'train', data_dir={data_dir!r}))); "
        f"print(len(token_cache.task_names({mixture!r}))); "
        "print('tensorflow' in sys.modules or 'seqio' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["600", "4", "False"]


def test_a_cache_older_than_its_sources_is_rebuilt(data_dir, cache_dir):
    folder = token_cache.load(TASK, "validation", data_dir=data_dir).directory
    meta = json.loads((folder / "meta.json").read_text())
    sources = {Path(source).name for source in meta["sources"]}
    assert {"__init__.py", "preprocessors.py", "explain.py", "compact.model", "dataset_info.json"} <= sources
    assert token_cache.load(TASK, "validation", data_dir=data_dir).meta == meta  # fresh
    meta["sources"][next(iter(meta["sources"]))] = "another digest"
    (folder / "meta.json").write_text(json.dumps({**meta, "task": "stale"}))
    assert token_cache.load(TASK, "validation", data_dir=data_dir).task == TASK


def features_of(vocabulary):
    return {name: seqio.Feature(vocabulary) for name in token_cache.FEATURES}


FEATURES = features_of(seqio.SentencePieceVocabulary(str(COMPACT), 0))


def lines_task(file, metric=None, features=FEATURES):
    return seqio.TaskRegistry.add(
        "lines",
        seqio.TextLineDataSource({"validation": str(file)}),
        preprocessors=[
            lambda lines: lines.map(
                lambda line: dict(zip(("inputs", "targets"), tf.unstack(tf.strings.split(line, "\t"), 2), strict=True))
            ),
            seqio.preprocessors.tokenize,
            seqio.preprocessors.append_eos,
        ],
        output_features=features,
        metric_fns=[] if metric is None else [metric],
    )


def test_a_changed_file_rebuilds_its_tokens(registries, tmp_path):
    file = tmp_path / "lines.tsv"
    file.write_text("1 2\t3\n")
    lines_task(file)
    assert len(token_cache.load("lines", "validation", __name__)) == 1
    file.write_text("1 2\t3\n4 5\t6\n")
    assert len(token_cache.load("lines", "validation", __name__)) == 2


@pytest.mark.parametrize(
    ("file", "features", "message"),
    [
        ("lines.tsv", {"targets": FEATURES["targets"]}, "has no output feature 'inputs'; T5 needs inputs and targets"),
        ("lines.tsv", features_of(seqio.ByteVocabulary()), "has a ByteVocabulary; give its features a SentencePiece"),
        ("lines.tsv", features_of(seqio.SentencePieceVocabulary("/nowhere/model", 0)), "cannot be read .*/nowhere/mod"),
        ("absent.tsv", FEATURES, "cannot be read .*absent.tsv"),
    ],
)
def test_errors_in_a_user_s_task_are_one_line(registries, tmp_path, monkeypatch, file, features, message):
    monkeypatch.setenv("EXPLAINFT_CACHE_DIR", str(tmp_path))
    (tmp_path / "lines.tsv").write_text("1 2\t3\n")
    lines_task(tmp_path / file, features=features)
    with pytest.raises(UserError, match=f"task 'lines' {message}") as raised:
        token_cache.load("lines", "validation", __name__)
    assert "\n" not in raised.value.line


def test_features_of_one_length_are_features_too(registries):
    def rows(split, shuffle_files=False, seed=None):
        return tf.data.Dataset.range(5).map(lambda i: {"inputs": tf.fill([3], tf.cast(i, tf.int32)), "targets": [4, 1]})

    source = seqio.FunctionDataSource(rows, splits=["train"], num_input_examples={"train": 5})
    seqio.TaskRegistry.add("rows", source, preprocessors=[], output_features=FEATURES)
    cache = token_cache.load("rows", "train", __name__)
    assert [cache.inputs[i].tolist() for i in range(5)] == [[i] * 3 for i in range(5)]
    assert [cache.targets[i].tolist() for i in range(5)] == [[4, 1]] * 5


def score_of(targets, scores):
    raise AssertionError("is for scores, and gets texts")


def test_metrics_of_scores_are_left_out(registries, tmp_path):
    (tmp_path / "lines.tsv").write_text("7\t8\n")
    lines_task(tmp_path / "lines.tsv", score_of)
    assert token_cache.load("lines", "validation", __name__).metrics() == []


def test_other_settings_make_other_tokens(data_dir, monkeypatch, tmp_path):
    built = []
    monkeypatch.setattr(tokenize, "build", lambda name, split, settings, folder: built.append(settings))
    token_cache.load(TASK, "validation", data_dir=data_dir)
    monkeypatch.setenv("TFDS_DATA_DIR", data_dir)
    token_cache.load(TASK, "validation")
    assert not built
    monkeypatch.setattr(token_cache, "TokenCache", str)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    token_cache.load(TASK, "validation")
    token_cache.load(TASK, "validation", "another_module", data_dir)
    monkeypatch.setenv("EXPLAINFT_T5_VOCAB", "/another/sentencepiece.model")
    token_cache.load(TASK, "validation", data_dir=data_dir)
    assert [settings["data_dir"] for settings in built] == [str(tmp_path), data_dir, data_dir]
    assert [settings["module"] for settings in built] == ["tasks", "another_module", "tasks"]


def test_other_settings_have_another_directory(data_dir, tmp_path):
    ours = token_cache.load(TASK, "validation", data_dir=data_dir)
    theirs = token_cache.load(TASK, "validation", data_dir=f"{data_dir}/../{Path(data_dir).name}")
    assert ours.directory != theirs.directory and examples_of(ours) == examples_of(theirs)
    assert ours.meta == json.loads((ours.directory / "meta.json").read_text())
    found = token_cache.newest(TASK, "validation")
    assert found is not None and found.directory == theirs.directory


def test_a_corrupt_cache_is_rebuilt(data_dir):
    folder = token_cache.load(TASK, "validation", data_dir=data_dir).directory
    (folder / "meta.json").write_text("{")
    assert token_cache.load(TASK, "validation", data_dir=data_dir).task == TASK


def test_an_unwritable_cache(data_dir, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EXPLAINFT_CACHE_DIR", str(tmp_path / "file"))
    for ask in (lambda: token_cache.load(TASK, "train", data_dir=data_dir), lambda: token_cache.task_names(TASK)):
        with pytest.raises(UserError, match="cannot write the token cache .*set EXPLAINFT_CACHE_DIR"):
            ask()


@pytest.mark.parametrize(
    ("name", "split", "module", "message"),
    [
        ("explained_tiny_medum_compact", "train", "tasks", "did you mean 'explained_tiny_medium_compact'"),
        (TASK, "tests", "tasks", "no split 'tests'.*train"),
        (TASK, "train2", "no_such_module", "MIXTURE_OR_TASK_MODULE='no_such_module' cannot be imported"),
        ("explained_tiny_medium_eval_compact", "validation", "tasks", "is a mixture"),
    ],
)
def test_unknown_names_are_refused(data_dir, name, split, module, message):
    with pytest.raises(UserError, match=message):
        token_cache.load(name, split, module, data_dir)


def test_a_failed_build_leaves_nothing(data_dir, cache_dir, monkeypatch):
    def fail(*_):
        raise RuntimeError("stopped")

    monkeypatch.setattr(tokenize, "_write_examples", fail)
    with pytest.raises(RuntimeError, match="stopped"):
        token_cache.load("explained_tiny_long_compact", "train", data_dir=data_dir)
    assert list((cache_dir / "tokens" / "explained_tiny_long_compact").iterdir()) == []


# ---- what seqio_cache_tasks has written


def write_offline_cache(folder, name, data_dir):
    """seqio_cache_tasks without Beam, in seqio's own encoding and file names; backwards, as Beam's order is another."""
    seqio.set_tfds_data_dir_override(data_dir)
    task = seqio.TaskRegistry.get(name)
    cache = folder / name
    cache.mkdir(parents=True)
    for split in task.splits:
        dataset = task.preprocess_precache(task.source.get_dataset(split, shuffle=False))
        rows = list(tfds.as_numpy(dataset))[::-1]
        with tf.io.TFRecordWriter(f"{seqio.get_cached_tfrecord_prefix(cache, split)}-00000-of-00001") as records:
            for row in rows:
                records.write(seqio.dict_to_tfexample(row).SerializeToString())
        kinds = {
            key: {"shape": [None] * len(spec.shape), "dtype": spec.dtype.name}
            for key, spec in dataset.element_spec.items()
        }
        info = {"features": kinds, "num_shards": 1, "seqio_version": seqio.__version__}
        Path(seqio.get_cached_info_path(cache, split)).write_text(json.dumps(info))
        Path(seqio.get_cached_stats_path(cache, split)).write_text(json.dumps({"examples": len(rows)}))
    (cache / "COMPLETED").write_text("")


def examples_of(cache):
    records = cache.records or [None] * len(cache)
    return [(cache.inputs[i].tolist(), cache.targets[i].tolist(), records[i]) for i in range(len(cache))]


@pytest.mark.usefixtures("seqio_unchanged")
def test_an_offline_cache_holds_the_same_examples_and_needs_no_data(data_dir, tmp_path):
    for name, split in ((TASK, "train"), (EVAL_TASK, "test")):
        directly = examples_of(token_cache.load(name, split, data_dir=data_dir))
        write_offline_cache(tmp_path, name, data_dir)
        cache = token_cache.load(
            name, split, data_dir="/nowhere", use_cached=True, seqio_additional_cache_dirs=[str(tmp_path)]
        )
        assert examples_of(cache) == directly[::-1]
        assert cache.meta["settings"]["offline_caches"] == [str(tmp_path)]
        assert str(tmp_path / name / f"info.{split}.json") in cache.meta["sources"]
    postprocess, [metric] = cache.postprocess(), cache.metrics()
    gold = [record["targets_pretokenized"] for record in cache.records]
    targets = [postprocess(text, example=r, is_target=True) for text, r in zip(gold, cache.records, strict=True)]
    assert metric(targets, gold)["valid"] == 1.0
    # The same name asked for without the cache is another question.
    assert examples_of(token_cache.load(EVAL_TASK, "test", data_dir=data_dir)) == directly


@pytest.mark.usefixtures("seqio_unchanged")
def test_an_offline_cache_that_is_not_there(data_dir, tmp_path, monkeypatch):
    name = "explained_tiny_none_eval_longer_compact"
    use = functools.partial(token_cache.load, name, "validation", data_dir=data_dir, use_cached=True)
    with pytest.raises(
        UserError, match="not cached in any directory: --seqio_additional_cache_dirs names none"
    ) as raised:
        use()
    assert "\n" not in raised.value.line
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as raised:
        use(seqio_additional_cache_dirs=["offline"])
    assert raised.value.line == (
        f"USE_CACHED_TASKS=True, but split 'validation' of task {name!r} is not cached in {tmp_path}/offline; "
        f"run: seqio_cache_tasks --tasks={name} --output_cache_dir={tmp_path}/offline --module_import=tasks "
        f"--tfds_data_dir={data_dir}, or set it to False"
    )
    write_offline_cache(tmp_path / "offline", name, data_dir)
    (tmp_path / "offline" / name / "info.validation.json").unlink()
    with pytest.raises(UserError, match="split 'validation' .* is not cached in"):
        use(seqio_additional_cache_dirs=["offline"])


@pytest.mark.beam
@pytest.mark.skipif(importlib.util.find_spec("apache_beam") is None, reason="needs the extra `beam`")
@pytest.mark.filterwarnings("default")  # Beam's older protobuf warns where TFDS uses it
@pytest.mark.usefixtures("seqio_unchanged")
def test_what_seqio_cache_tasks_writes_is_read(data_dir, tmp_path):
    """The real command, in a process of its own."""
    name = "explained_tiny_long_eval_test_compact"
    command = [
        *(Path(sys.executable).with_name("seqio_cache_tasks"), f"--tasks={name}", f"--output_cache_dir={tmp_path}"),
        *("--module_import=tasks", f"--tfds_data_dir={data_dir}", "--min_shards=2"),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    options = {"use_cached": True, "seqio_additional_cache_dirs": [str(tmp_path)]}
    cached = examples_of(token_cache.load(name, "validation", data_dir="/nowhere", **options))
    directly = examples_of(token_cache.load(name, "validation", data_dir=data_dir))
    assert sorted(json.dumps(e, sort_keys=True) for e in cached) == sorted(
        json.dumps(e, sort_keys=True) for e in directly
    )


@pytest.mark.usefixtures("seqio_unchanged")
def test_tasks_that_are_always_or_never_cached(data_dir, tmp_path):
    task = seqio.TaskRegistry.get(TASK)
    others = [step for step in task.preprocessors if not isinstance(step, seqio.CacheDatasetPlaceholder)]
    for name, steps in (
        ("explained_always", [*others[:2], seqio.CacheDatasetPlaceholder(required=True), others[2]]),
        ("explained_never", others),
    ):
        seqio.TaskRegistry.add(name, task.source, preprocessors=steps, output_features=task.output_features)
    try:
        with pytest.raises(UserError, match="'explained_always' .* offline cache only; set USE_CACHED_TASKS=True"):
            token_cache.load("explained_always", "validation", data_dir=data_dir)
        uncached = token_cache.load("explained_never", "validation", data_dir=data_dir, use_cached=True)
        assert examples_of(uncached) == examples_of(token_cache.load(TASK, "validation", data_dir=data_dir))
    finally:
        for name in ("explained_always", "explained_never"):
            seqio.TaskRegistry.remove(name)
