import functools
import json
import random

import pytest

from explainft import listops
from explainft.evaluation import metrics
from explainft.evaluation.targets import postprocess_listops


def target(expression: str, style: str = "medium", **options) -> dict:
    tree = listops.parse(expression)
    example = {"expression": expression.encode(), "answer": listops.evaluate(tree)}
    return postprocess_listops(listops.explain(tree, style), example=example, is_target=True, style=style, **options)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_equals_the_published_intervals(successes, n, low, high):
    assert metrics.wilson(successes, n) == pytest.approx((low, high), abs=6e-5)


def test_wilson_bounds_solve_the_score_equation():
    """Each bound p is where the observed share lies z standard errors of p away."""
    rng = random.Random(0)
    for _ in range(100):
        n = rng.randint(2, 3000)
        successes = rng.randint(1, n - 1)
        for p in metrics.wilson(successes, n, z=1.5):
            assert abs(successes / n - p) == pytest.approx(1.5 * (p * (1 - p) / n) ** 0.5)


def test_wilson_without_trials_and_at_both_ends():
    assert metrics.wilson(0, 0) == (0.0, 1.0)
    assert metrics.wilson(0, 9)[0] == pytest.approx(0) and metrics.wilson(9, 9)[1] == pytest.approx(1)
    low, high = metrics.wilson(9, 9)
    assert 0 < low < high <= 1


def test_score_of_a_hand_counted_mixture():
    targets = [
        target("[MAX 2 9 ]"),
        target("[SUM 7 5 [MIN 4 7 ] ]"),
        target("[SUM 7 5 ]"),
        target("[MED 1 [MAX 0 4 ] 2 ]"),
    ]
    predictions = [
        "Max, largest number of [2, 9] is 9\nFinal answer: 9",  # right throughout
        "Min, smallest number of [4, 7] is 5 SUM, add [7, 5, 4], sum is 16, answer is 6; Final answer: 6",  # one slip
        "SUM, add [7, 5], sum is 12, answer is 2\nFinal answer: 3",  # every step right, wrong answer
        "Max, largest number of [0, 4] is 4\nMED, sorted",  # cut off
    ]
    assert metrics.score(targets, predictions) == {
        "exact_match": 0.5,
        "exact_match_low": pytest.approx(0.1500, abs=1e-4),
        "exact_match_high": pytest.approx(0.8500, abs=1e-4),
        "n": 4,
        "parseable": 0.75,
        "valid": 0.25,
        "step_accuracy": 4 / 6,
        "exact_match/operator/MAX": 1.0,
        "n/operator/MAX": 1,
        "exact_match/operator/SUM": 0.5,
        "n/operator/SUM": 2,
        "exact_match/operator/MED": 0.0,
        "n/operator/MED": 1,
        "exact_match/depth/1": 0.5,
        "n/depth/1": 2,
        "exact_match/depth/2": 0.5,
        "n/depth/2": 2,
        "exact_match/length/0-4": 0.5,
        "n/length/0-4": 2,
        "exact_match/length/5-9": 0.5,
        "n/length/5-9": 2,
    }


@pytest.mark.parametrize("style", ["none", "shuffled"])
def test_styles_without_an_order_of_steps_have_no_step_metrics(style):
    targets = [{"expression": "[MAX 2 9 ]", "answer": 9, "style": style, "modulus": 10}] * 2
    result = metrics.score(targets, ["9" if style == "none" else "Max, 1\nFinal answer: 9", "no idea"])
    assert result["exact_match"] == 0.5 and result["parseable"] == 0.5
    assert "valid" not in result and "step_accuracy" not in result


def test_length_buckets_hold_5_lengths_and_from_60_on_10():
    def bucket(length):  # an operator counts 2, a value 1
        [name] = [
            key
            for key in metrics.score([target("[MAX" + " 1" * (length - 2) + " ]")], [""])
            if key.startswith("n/length/")
        ]
        return name.removeprefix("n/length/")

    lengths = (20, 24, 25, 59, 60, 69, 70, 199)
    expected = ["20-24", "20-24", "25-29", "55-59", "60-69", "60-69", "70-79", "190-199"]
    assert [bucket(length) for length in lengths] == expected


def test_modulus_of_the_config_counts():
    assert target("[SUM 7 5 ]", modulus=7)["modulus"] == 7
    seven = {"expression": "[SUM 7 5 ]", "answer": 5, "style": "medium", "modulus": 7}
    assert metrics.score([seven], ["SUM, add [7, 5], sum is 12, answer is 5\nFinal answer: 5"])["valid"] == 1.0
    assert metrics.score([seven], ["SUM, add [7, 5], sum is 12, answer is 2\nFinal answer: 2"])["step_accuracy"] == 0.0


def test_no_examples():
    assert metrics.score([], []) == {
        "exact_match": 0.0,
        "exact_match_low": 0.0,
        "exact_match_high": 1.0,
        "n": 0,
        "parseable": 0.0,
    }


def test_a_missing_prediction_is_an_error():
    with pytest.raises(ValueError, match="shorter"):
        metrics.score([target("[MAX 2 9 ]")], [])


def test_target_is_the_same_from_records_and_from_json():
    postprocess = functools.partial(postprocess_listops, style="long", modulus=10)
    example = {"expression": "[MAX 2 9 ]", "answer": 9}
    plain = postprocess("unused", example=example, is_target=True)
    assert plain == postprocess(b"unused", example={"expression": b"[MAX 2 9 ]", "answer": 9}, is_target=True)
    assert json.loads(json.dumps(plain)) == plain
    assert postprocess(b"Final answer: 9", example=example) == "Final answer: 9"
    with pytest.raises(ValueError, match="expression and answer"):
        postprocess("9", is_target=True)
