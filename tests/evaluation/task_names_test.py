"""What the names of tasks say."""

import subprocess
import sys

import pytest

from explainft.evaluation import task_names


def test_the_mixture_of_a_training_task():
    assert task_names.evaluation_mixture("explained_tiny_medium_compact") == "explained_tiny_medium_eval_compact"
    assert task_names.evaluation_mixture("explained_listops30_none") == "explained_listops30_none_eval"


@pytest.mark.parametrize(
    ("task", "parts"),
    [
        ("explained_tiny_medium_eval_validation_compact", ("explained_tiny_medium", "validation")),
        ("explained_listops30_none_eval_larger_numbers", ("explained_listops30_none", "larger_numbers")),
        ("squad", ("", "squad")),
    ],
)
def test_an_evaluation_task_has_a_variant_and_a_split(task, parts):
    assert task_names.parse_evaluation(task) == parts


@pytest.mark.parametrize(
    ("variant", "parts"),
    [
        ("explained_tiny_25_96_medium", ("tiny_25_96", "medium")),
        ("explained_homes_explain_answer", ("homes", "explain_answer")),
        ("explained_old_homes_answer_explain", ("old_homes", "answer_explain")),
        ("explained_homes_answer", ("homes", "answer")),
        ("explained_homes_answer_2_shot_reworded", ("homes", "answer_2_shot_reworded")),
        ("explained_tiny_25_96_medium_4_shot_sampled_0", ("tiny_25_96", "medium_4_shot_sampled_0")),
    ],
)
def test_a_variant_has_a_config_and_a_style(variant, parts):
    assert task_names.config_and_style(variant) == parts


@pytest.mark.parametrize(
    ("task", "config"),
    [
        ("explained_listops30_medium", "listops30"),
        ("explained_listops30_50_100_long_compact", "listops30_50_100"),
        ("explained_tiny_none_compact", "tiny"),
        ("another_task", None),
    ],
)
def test_the_config_of_a_task(task, config):
    found = task_names.listops_config(task)
    assert (found.name if found else None) == config


def test_names_are_parsed_without_jax():
    program = "import sys, explainft.evaluation.task_names; print({'jax', 'seqio', 'tensorflow'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
