"""`eval` of a run: which tasks it decodes, from which module, and which scores it may replace."""

import json
import sys

import pytest

from explainft.core.errors import UserError
from explainft.evaluation.evaluate import evaluate_run
from explainft.generation.quantization import DecodeConfig
from tests.helpers.run_directories import shipped

MODULE = """
import seqio
import tensorflow as tf

from tasks.vocabularies import COMPACT_VOCABULARY


def split_fields(lines):
    def split(line):
        return dict(zip(("inputs", "targets"), tf.unstack(tf.strings.split(line, ";"), 2)))

    return lines.map(split)


def count(targets, predictions):
    return {"count": float(len(predictions))}


for name in ("own", "other"):
    seqio.TaskRegistry.add(
        f"{name}_eval",
        seqio.TextLineDataSource({"validation": "FILE"}),
        preprocessors=[split_fields, seqio.preprocessors.tokenize, seqio.preprocessors.append_eos],
        output_features={key: seqio.Feature(COMPACT_VOCABULARY) for key in ("inputs", "targets")},
        metric_fns=[count],
    )
"""


@pytest.fixture
def module(tmp_path, monkeypatch, registries):
    """A user's module that registers own_eval and other_eval."""
    (tmp_path / "lines.txt").write_text("[MAX 1 2 ];2\n[MIN 1 2 ];1\n[SUM 1 2 ];3\n")
    (tmp_path / "users_tasks.py").write_text(MODULE.replace("FILE", str(tmp_path / "lines.txt")))
    monkeypatch.setenv("EXPLAINFT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "users_tasks"
    sys.modules.pop("users_tasks", None)


def evaluate(run, mixture=None, num_examples=None, overwrite=False):
    evaluate_run(run, mixture, None, 4, num_examples, None, DecodeConfig(), None, overwrite)


def scores(run, task):
    file = run / "inference_eval" / f"{task}-metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize(("task", "evaluated"), [("own", "own_eval"), ("without_an_evaluation_task", "other_eval")])
def test_a_run_on_a_user_s_task_is_evaluated_on_its_own_tasks(tmp_path, module, capsys, task, evaluated):
    run = shipped(tmp_path / "run", task=task, module=module, evaluation="other_eval")
    evaluate(run)
    assert scores(run, evaluated) == [{"step": 4000, "count": 3.0, "cut": 1.0}]
    assert capsys.readouterr().out == f"{evaluated} step 4000: count 3  cut 1\n"


def test_an_unknown_task_is_answered_in_one_short_line(tmp_path, module):
    run = shipped(tmp_path / "run", task="own", module=module, evaluation="other_eval")
    with pytest.raises(UserError, match="module 'users_tasks' registers no task or mixture 'ownn_eval'") as caught:
        evaluate(run, "ownn_eval")
    assert "did you mean 'own_eval'" in caught.value.line and len(caught.value.line) < 200


def test_fewer_examples_replace_scores_with_overwrite_only(tmp_path, module):
    run = shipped(tmp_path / "run", task="own", module=module, evaluation="other_eval")
    evaluate(run, num_examples=2)
    evaluate(run)
    with pytest.raises(UserError, match="scores of own_eval at step 4,000 on 3 examples"):
        evaluate(run, num_examples=1)
    assert scores(run, "own_eval") == [{"step": 4000, "count": 3.0, "cut": 1.0}]
    evaluate(run, num_examples=1, overwrite=True)
    assert scores(run, "own_eval") == [{"step": 4000, "count": 1.0, "cut": 1.0}]
