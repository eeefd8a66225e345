"""The tasks of the experiments: what is left out of an explanation, and that nothing else is."""

import importlib
import re
from collections import Counter

import pytest
import seqio
import tensorflow as tf

from explainft import listops
from tests.helpers.datasets import build_cut

TREE = listops.parse("[MED 1 [SUM 2 9 ] [MAX 3 4 ] [MIN 5 6 ] ]")
LINES = [
    "SUM, add [2, 9], sum is 11, answer is 1",
    "Max, largest number of [3, 4] is 4",
    "Min, smallest number of [5, 6] is 5",
    "MED, sorted list, [1, 1, 4, 5], MEDIAN is 2",
    "Final answer: 2",
]
WITHOUT = {
    "lists": ["SUM, sum is 11, answer is 1", "Max, 4", "Min, 5", *LINES[3:]],
    "sorting": [*LINES[:3], "MED, 2", LINES[4]],
    "sum": ["SUM, add [2, 9], answer is 1", *LINES[1:]],
}


@pytest.fixture
def sweeps(registries, seqio_unchanged, tiny_data_dir):
    seqio.set_tfds_data_dir_override(tiny_data_dir)
    return importlib.import_module("experiments.tasks")


@pytest.mark.parametrize("part", WITHOUT)
def test_only_the_named_part_is_left_out(sweeps, part):
    assert WITHOUT.keys() == sweeps.LEFT_OUT.keys()
    text = listops.explain(TREE, "medium")
    assert text.split("\n") == LINES
    [row] = sweeps._leave_out(tf.data.Dataset.from_tensors({"targets": text}), part).as_numpy_iterator()
    assert row["targets"].decode().split("\n") == WITHOUT[part]


def test_the_tasks_of_the_sweeps_are_registered(sweeps):
    names = set(seqio.TaskRegistry.names())
    assert {f"explained_tiny_without_{part}_eval_test_compact" for part in sweeps.LEFT_OUT} <= names
    assert {f"explained_tiny_medium_{percent}_percent_compact" for percent in (2, 10, 50)} <= names
    assert {f"explained_tiny_{n}_none_compact" for n in (1000, 3000, 10000, 30000)} <= names
    assert {"explained_tiny_marked_compact", "explained_tiny_25_96_marked_eval_test_compact"} <= names
    assert "explained_tiny_far_steps_compact" in names
    assert {"explained_tiny_steps_compact", "explained_tiny_25_96_steps_eval_test_compact"} <= names
    assert {f"explained_tiny_25_96_{style}_eval_twice_compact" for style in ("steps", "again_steps")} <= names
    assert {"explained_tiny_gaps_digits_compact", "explained_tiny_gaps_digits_eval_larger_numbers_compact"} <= names
    assert "explained_tiny_gaps_digits_eval_compact" in seqio.MixtureRegistry.names()


@pytest.mark.parametrize("name", ["explained_tiny_marked_compact", "explained_tiny_marked_eval_test_compact"])
def test_long_expressions_are_marked_more_often_in_training_alone(sweeps, name):
    task = seqio.TaskRegistry.get(name)
    rows = task.get_dataset(None, task.splits[0], shuffle=False).take(300).as_numpy_iterator()
    drawn = Counter(row["expression"].decode() for row in rows)
    drawn.popitem()  # which take(300) may have cut off
    lengths = {expression: listops.length(listops.parse(expression)) for expression in drawn}
    wanted = {e: 1 if "eval" in name else max(1, length // 4 - 1) for e, length in lengths.items()}
    assert drawn == wanted and max(lengths.values()) > 20


def test_those_twice_as_long_are_all_of_a_quarter_that_was_not_tested_on(sweeps, tmp_path):
    build_cut("tiny_25_96", str(tmp_path))
    seqio.set_tfds_data_dir_override(str(tmp_path))
    everything = seqio.TaskRegistry.get("explained_tiny_25_96_none").source.get_dataset("train", shuffle=False)
    quarter = {row["expression"] for row in everything.take(600 // 4).as_numpy_iterator()}
    task = seqio.TaskRegistry.get("explained_tiny_25_96_steps_eval_twice_compact")
    rows = list(task.get_dataset(None, "test", shuffle=False).as_numpy_iterator())
    trees = [listops.parse(row["expression"].decode()) for row in rows]
    assert {row["expression"] for row in rows} == {
        e for e in quarter if 45 <= listops.length(listops.parse(e.decode())) <= 49
    }
    assert [row["targets_pretokenized"].decode() for row in rows] == [listops.explain(t, "medium") for t in trees]
    assert len(rows) > 5


def test_digits_can_be_learned_without_meeting_an_unseen_number(sweeps, tmp_path):
    build_cut("tiny_gaps", str(tmp_path))
    seqio.set_tfds_data_dir_override(str(tmp_path))

    def texts(name):
        rows = seqio.TaskRegistry.get(name).get_dataset(None, "train", shuffle=False).as_numpy_iterator()
        return [(row["inputs_pretokenized"] + b" " + row["targets_pretokenized"]).decode() for row in rows]

    every, unmet = texts("explained_tiny_gaps_digits_compact"), texts("explained_tiny_gaps_unmet_digits_compact")
    shown = re.compile(r"\b(11|14|17|20|23|26|29)\b")
    assert list(dict.fromkeys(unmet)) == [text for text in every if not shown.search(text)]
    assert 300 < len(set(unmet)) < len(every) == 600 and len(unmet) > len(set(unmet))
    evaluation = seqio.TaskRegistry.get("explained_tiny_gaps_unmet_digits_eval_larger_numbers_compact")
    assert len(list(evaluation.get_dataset(None, "test", shuffle=False).as_numpy_iterator())) == 40


def test_sampled_problems_are_training_problems(sweeps, tmp_path):
    build_cut("tiny", str(tmp_path))
    seqio.set_tfds_data_dir_override(str(tmp_path))
    everything = seqio.TaskRegistry.get("explained_tiny_medium").source.get_dataset("train", shuffle=False)
    first = [row["expression"] for row in everything.take(600 * 4 // 100).as_numpy_iterator()]
    task = seqio.TaskRegistry.get("explained_tiny_medium_eval_sampled_compact")
    rows = list(task.get_dataset(None, "validation", shuffle=False).as_numpy_iterator())
    assert [row["expression"] for row in rows] == first
    assert rows[0]["targets_pretokenized"].decode() == listops.explain(listops.parse(first[0].decode()), "medium")
    assert seqio.TaskRegistry.get("explained_tiny_3000_medium_eval_sampled_compact").splits == ("validation", "test")
