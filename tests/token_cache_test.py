"""Token caches made from the real tasks, and their use without TensorFlow."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from explainft import listops, token_cache
from explainft.errors import UserError

TASK = "explained_tiny_medium_compact"
EVAL_TASK = "explained_tiny_medium_eval_test_compact"


@pytest.fixture(scope="module")
def data_dir(tiny_data_dir):
    return tiny_data_dir


def test_tokens_are_the_task_s_texts(data_dir):
    cache = token_cache.load(EVAL_TASK, "validation", data_dir=data_dir)
    records = cache.records
    assert len(cache) == len(records) == 40
    for i, record in enumerate(records):
        tree = listops.parse(record["expression"])
        assert cache.inputs[i][-1] == cache.targets[i][-1] == 1
        assert cache.vocabulary.decode(cache.inputs[i][:-1].tolist()) == listops.format(tree)
        assert cache.vocabulary.decode(cache.targets[i][:-1].tolist()) == listops.explain(tree, "medium")
        assert cache.inputs[i][:-1].tolist() == cache.vocabulary.encode(record["inputs_pretokenized"])


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
        "import sys; from explainft import token_cache; "
        f"print(len(token_cache.load({TASK!r}, 'train', data_dir={data_dir!r}))); "
        f"print(len(token_cache.task_names({mixture!r}))); "
        "print('tensorflow' in sys.modules or 'seqio' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["600", "4", "False"]


def test_a_cache_older_than_its_sources_is_made_again(data_dir, cache_dir):
    folder = token_cache.load(TASK, "validation", data_dir=data_dir).folder
    meta = json.loads((folder / "meta.json").read_text())
    sources = {Path(source).name for source in meta["sources"]}
    assert {"__init__.py", "preprocessors.py", "compact.model", "dataset_info.json"} <= sources
    assert token_cache.load(TASK, "validation", data_dir=data_dir).meta == meta  # fresh
    meta["sources"][next(iter(meta["sources"]))] = "another digest"
    (folder / "meta.json").write_text(json.dumps({**meta, "task": "stale"}))
    assert token_cache.load(TASK, "validation", data_dir=data_dir).task == TASK


def test_other_settings_make_other_tokens(data_dir, monkeypatch, tmp_path):
    built = []
    monkeypatch.setattr(token_cache, "_build", lambda name, split, asked, folder: built.append(asked))
    token_cache.load(TASK, "validation", data_dir=data_dir)
    assert not built
    token_cache.load(TASK, "validation", data_dir=str(tmp_path))
    token_cache.load(TASK, "validation", "my_tasks", data_dir)
    monkeypatch.setenv("EXPLAINFT_T5_VOCAB", "/another/sentencepiece.model")
    token_cache.load(TASK, "validation", data_dir=data_dir)
    assert [asked["data_dir"] for asked in built] == [str(tmp_path), data_dir, data_dir]
    assert [asked["module"] for asked in built] == ["tasks", "my_tasks", "tasks"]


def test_a_damaged_cache_is_made_again(data_dir):
    folder = token_cache.load(TASK, "validation", data_dir=data_dir).folder
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
def test_mistakes(data_dir, name, split, module, message):
    with pytest.raises(UserError, match=message):
        token_cache.load(name, split, module, data_dir)


def test_a_failed_build_leaves_nothing(data_dir, cache_dir, monkeypatch):
    def fail(*_):
        raise RuntimeError("stopped")

    monkeypatch.setattr(token_cache, "_write_examples", fail)
    with pytest.raises(RuntimeError, match="stopped"):
        token_cache.load("explained_tiny_long_compact", "train", data_dir=data_dir)
    assert list((cache_dir / "tokens" / "explained_tiny_long_compact").iterdir()) == []
