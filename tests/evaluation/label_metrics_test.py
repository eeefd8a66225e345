"""Metrics of ranked labels, counted by hand."""

import math

import pytest

from explainft.evaluation.label_metrics import gold_text, label_metrics
from explainft.generation.generator import Ranking

# The first label leads raw, the second normalized by length: -4 / 1 is less than -6 / 3.
SHORT_AND_LONG = Ranking(("a", "a b c"), (-4.0, -6.0), (1, 3))


def test_raw_and_normalized_leaders():
    assert SHORT_AND_LONG.best() == "a" and SHORT_AND_LONG.best(normalized=True) == "a b c"
    turned = Ranking(*(values[::-1] for values in SHORT_AND_LONG))
    assert turned.best() == "a" and turned.best(normalized=True) == "a b c"


def test_equal_scores_do_not_depend_on_the_order():
    assert Ranking(("x", "y"), (-1.0, -1.0), (1, 1)).best() == Ranking(("y", "x"), (-1.0, -1.0), (1, 1)).best()


def test_metrics_of_a_mixture_counted_by_hand():
    even = Ranking(("x", "y"), (math.log(0.3), math.log(0.1)), (2, 2))
    by_length = {"exact_match": 0.5, "exact_match_low": 0.1, "exact_match_high": 0.9, "parseable": 1.0}
    found = label_metrics([SHORT_AND_LONG, even], ["a b c", "x"], by_length)
    raw = (math.exp(-6) / (math.exp(-4) + math.exp(-6)) + 0.75) / 2
    first = math.exp(-2) / (math.exp(-4) + math.exp(-2))
    second = math.sqrt(0.3) / (math.sqrt(0.3) + math.sqrt(0.1))
    assert found == {
        "exact_match_normalized": 0.5,
        "exact_match_normalized_low": 0.1,
        "exact_match_normalized_high": 0.9,
        "gold_probability": pytest.approx(raw),
        "gold_probability_normalized": pytest.approx((first + second) / 2),
        "gold_log_likelihood": pytest.approx((-6.0 + math.log(0.3)) / 2),
    }
    assert set(label_metrics([even], ["z"], {})) == set()  # whose gold text is not one of the labels


def test_gold_text_is_the_answer_or_the_target_text():
    target = {"problem": "choice", "form": "answer", "example": {"question": "?", "choices": ["x"], "answer": "x"}}
    assert gold_text(target, {"targets_pretokenized": "prefix\nx"}) == "x"
    assert gold_text("x", {"targets_pretokenized": "x"}) == "x"
