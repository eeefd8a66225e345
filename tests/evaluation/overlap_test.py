"""ROUGE-L and BLEU against their libraries, and counted by hand."""

import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU

from explainft.evaluation import overlap
from explainft.evaluation.targets import Target
from explainft.problems.registry import get_problem

REFERENCES = [
    "The mole is at home in the earth.\nNo other place suits it.",
    "A fox digs a hole, and the hole is a den.",
    "Owls sleep by day and hunt by night in the woods.",
    "bees",
]
TEXTS = [
    "The mole is at home in the sea.\nNo place suits it.",
    "A fox digs a hole, and the hole is a den.",
    "",
    "wasps and bees",
]


def targets(references, problem="text", form="answer", **fields):
    field = "answer" if form == "answer" else "explanation"
    example = {"question": "?", "answer": "so", "explanation": ""}
    return [
        {"problem": problem, "form": form, "example": {**example, field: reference, **fields}}
        for reference in references
    ]


def test_equal_to_the_libraries():
    found = overlap.score(targets(REFERENCES), TEXTS)
    scorer = RougeScorer(["rougeL"])
    rouge = [scorer.score(r, t)["rougeL"].fmeasure for r, t in zip(REFERENCES, TEXTS, strict=True)]
    assert found["rouge_l"] == pytest.approx(sum(rouge) / len(rouge))
    assert found["bleu"] == pytest.approx(BLEU().corpus_score(TEXTS, [REFERENCES]).score / 100)
    assert found["n_texts"] == 4


def test_rouge_l_counted_by_hand():
    # The longest common subsequence of the last pair is "bees": precision 1/3, recall 1.
    assert overlap.rouge_l(["bees"], ["wasps and bees"])["rouge_l"] == pytest.approx(0.5)
    found = overlap.rouge_l(["bees", "a b"], ["wasps and bees", "a b"])
    assert found["rouge_l"] == pytest.approx(0.75)
    assert (found["rouge_l_low"], found["rouge_l_high"]) == (0.5, 1.0)


def test_bleu_counted_by_hand():
    # Unigrams 3 of 4, bigrams 2 of 3, trigrams 1 of 2, 4-grams 0 of 1 smoothed to 1/2 of 1; no brevity penalty.
    expected = (3 / 4 * 2 / 3 * 1 / 2 * 1 / 2) ** 0.25
    assert overlap.bleu(["a b c d"], ["a b c e"])["bleu"] == pytest.approx(expected)


@pytest.mark.parametrize("form", ["answer", "explain_answer", "answer_explain", "mt_re_explanation"])
def test_gold_texts_score_one_and_empty_ones_zero(form):
    gold = targets(REFERENCES, form=form)
    texts = {
        "answer": "{}", "explain_answer": "{}\nThe answer is so", "answer_explain": "The answer is so\n{}",
        "mt_re_explanation": "{}",
    }[form]  # fmt: skip
    perfect = overlap.score(gold, [texts.format(reference) for reference in REFERENCES])
    assert {name: perfect[name] for name in perfect if name != "n_texts"} == dict.fromkeys(
        ("rouge_l", "rouge_l_low", "rouge_l_high", "bleu", "bleu_low", "bleu_high"), pytest.approx(1.0)
    )
    assert max(perfect.values()) == perfect["n_texts"] and perfect["bleu"] <= 1.0
    empty = overlap.score(gold, [""] * 4)
    assert [empty[name] for name in ("rouge_l", "rouge_l_high", "bleu", "bleu_high")] == [0.0] * 4


def test_answers_of_one_word_can_reach_one():
    assert overlap.bleu(["sea", "air"], ["sea", "air"])["bleu"] == 1.0


def test_intervals_are_always_the_same_and_hold_the_value():
    pairs = [reference for reference in REFERENCES for _ in range(8)], [text for text in TEXTS for _ in range(8)]
    for metric, name in ((overlap.rouge_l, "rouge_l"), (overlap.bleu, "bleu")):
        found = metric(*pairs)
        assert metric(*pairs) == found
        assert 0 < found[f"{name}_low"] < found[name] < found[f"{name}_high"] < 1


def test_the_interval_of_a_mean_is_that_of_the_normal_approximation():
    references, texts = ["a"] * 400, ["a"] * 100 + ["b"] * 300
    found = overlap.rouge_l(references, texts)
    margin = 1.96 * (0.25 * 0.75 / 400) ** 0.5
    assert found["rouge_l_low"] == pytest.approx(0.25 - margin, abs=0.006)
    assert found["rouge_l_high"] == pytest.approx(0.25 + margin, abs=0.006)


def test_examples_without_a_reference_are_left_out():
    mixed = targets([REFERENCES[0], ""], form="explain_answer")
    assert overlap.score(mixed, [REFERENCES[0], "anything"])["n_texts"] == 1
    assert overlap.score(targets(["sea"], problem="choice"), ["sea"]) == {}  # not a free text
    assert overlap.score(targets(REFERENCES, form="mt_cot_shuffled_explanation"), TEXTS) == {}  # permuted words
    assert overlap.score(["a target of a task of the user's own"], ["text"]) == {}


def test_what_is_compared():
    target = Target(get_problem("text"), {"answer": "so", "explanation": "It is."}, "explain_answer")
    assert overlap.reference_text(target) == "It is."
    assert overlap.compared_text(target, "It was.\nThe answer is so") == "It was."
