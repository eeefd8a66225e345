"""Few-shot prompts: templates, names, the choice of demonstrations, and which of them fit."""

from collections import Counter

import pytest

from explainft.core.errors import UserError
from explainft.data import few_shot, few_shot_names
from explainft.data.few_shot import Demonstration, Template
from explainft.data.few_shot_names import FewShotName

SHOWN = [Demonstration("1 + 1?", "2"), Demonstration("{target}?", "{question}")]


def packaged(name, tmp_path):
    return few_shot.read_template(few_shot.template_file(name, tmp_path))


def test_prompts_of_the_packaged_templates(tmp_path):
    training, reworded = packaged("training", tmp_path), packaged("reworded", tmp_path)
    assert training.prompt(SHOWN, "3 + 3?") == (
        "Question: 1 + 1?\nAnswer: 2\n\nQuestion: {target}?\nAnswer: {question}\n\nQuestion: 3 + 3?\nAnswer:"
    )
    assert training.prompt((), "3 + 3?") == "Question: 3 + 3?\nAnswer:"
    assert reworded.prompt(SHOWN[:1], "3 + 3?") == (
        "Read what is given and complete the last solution.\n\nGiven: 1 + 1?\nSolution: 2\n\nGiven: 3 + 3?\nSolution:"
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"input": "Q:"}, "must have {question} once in 'input'"),
        ({"demonstration": "{input}"}, "must have {target} once in 'demonstration'"),
        ({"demonstration": "{input}{target}{target}"}, "must have {target} once"),
        ({"input": "{question} {answer}"}, "has {answer} in 'input', whose placeholders are {question}"),
        ({"instruction": "{}"}, "has {} in 'instruction', whose placeholders are none"),
        ({"shots": "2"}, "must have the texts instruction, separator, input, demonstration, and no others"),
        ({"input": None}, "must have the texts"),
    ],
)
def test_a_wrong_template_is_refused(tmp_path, changes, words):
    texts = {"instruction": "", "separator": " ", "input": "{question}", "demonstration": "{input}{target}"} | changes
    file = tmp_path / "few_shot_templates" / "own.toml"
    file.parent.mkdir()
    file.write_text("".join(f'{name} = "{text}"\n' for name, text in texts.items() if text is not None))
    with pytest.raises(UserError, match=words.replace("{", r"\{")) as raised:
        packaged("own", tmp_path)
    assert "own.toml" in raised.value.line


def test_a_missing_template_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"own.toml \(No such file.*set TEMPLATE to reworded or training"):
        packaged("own", tmp_path)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("explained_homes_answer_4_shot", FewShotName("explained_homes_answer", 4)),
        ("explained_homes_answer_4_shot_eval", FewShotName("explained_homes_answer", 4, eval_split="")),
        ("explained_tiny_medium_0_shot_eval_larger_numbers_compact",
         FewShotName("explained_tiny_medium", 0, eval_split="larger_numbers", compact=True)),
        ("explained_homes_explain_answer_2_shot_reworded_sampled_17_eval_test",
         FewShotName("explained_homes_explain_answer", 2, "reworded", 17, "test")),
        ("explained_tiny_medium_1_shot_sampled_0_compact",
         FewShotName("explained_tiny_medium", 1, seed=0, compact=True)),
    ],
)  # fmt: skip
def test_a_name_has_all_settings(name, parts):
    assert few_shot_names.parse(name) == parts and str(parts) == name


@pytest.mark.parametrize("name", ["explained_tiny_medium", "explained_shot", "x_2_shot", "explained_a_b_2_shot_eval_"])
def test_other_names_are_not_parsed(name):
    assert few_shot_names.parse(name) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"form": "medium"}, "FORM='medium' must be one of answer, explain_answer, answer_explain"),
        ({"dataset": "tiny"}, "FORM='answer' must be one of none, short, medium, long"),
        ({"shots": -1}, "SHOTS=-1 must be at least 0"),
        ({"demonstrations": "first"}, "DEMONSTRATIONS='first' must be one of fixed, sampled"),
        ({"seed": -2}, "DEMONSTRATIONS_SEED=-2 must be at least 0"),
        ({"template": "my words"}, "TEMPLATE='my words' must be lower-case letters"),
        ({"vocabulary": "compact"}, "FEW_SHOT_VOCABULARY='compact' is for the configs of ListOps"),
    ],
)
def test_wrong_settings_are_refused(changes, words):
    settings = {
        "dataset": "homes", "form": "answer", "shots": 2, "template": "training", "demonstrations": "fixed", "seed": 0,
        "vocabulary": "t5",
    }  # fmt: skip
    assert few_shot_names.validation_task(**settings) == "explained_homes_answer_2_shot_eval_validation"
    with pytest.raises(UserError, match=words):
        few_shot_names.training_task(**settings | changes)


# ---- The choice.


def test_fixed_demonstrations_are_the_first_different_ones_that_are_not_evaluated():
    assert few_shot.choose_fixed([7, 7, 8, 9, 9, 10], 3, {8}) == [0, 3, 5]


def test_sampled_demonstrations_are_different_and_never_the_example_itself():
    for i in range(200):
        found = few_shot.choose_sampled(5, 4, 0, f"id {i}", own=i % 5)
        assert sorted(found) == [place for place in range(5) if place != i % 5]  # all that there are, in some order


def test_each_demonstration_is_sampled_equally_often_at_each_place():
    counts = [Counter() for _ in range(3)]
    n = 3000
    for i in range(n):
        for place, chosen in enumerate(few_shot.choose_sampled(10, 3, 0, str(i), None)):
            counts[place][chosen] += 1
    assert all(abs(count[c] - n / 10) < 5 * (n * 0.1 * 0.9) ** 0.5 for count in counts for c in range(10))


def test_the_sample_depends_on_seed_and_id_alone():
    first = few_shot.choose_sampled(1000, 4, 0, "a", None)
    assert first == few_shot.choose_sampled(1000, 4, 0, "a", None)
    others = [few_shot.choose_sampled(1000, 4, *settings, None) for settings in ((1, "a"), (0, "b"), (0, ""))]
    assert all(first != other for other in others)


@pytest.mark.parametrize(
    ("found", "sampled", "words"),
    [
        (3, False, "a 4-shot prompt needs 4 different demonstrations, and train has 3; use at most 3 shots"),
        (4, True, "needs 5 different demonstrations, one more than it shows, and train has 4; use at most 3 shots"),
    ],
)
def test_fewer_demonstrations_than_shots_are_refused(found, sampled, words):
    few_shot.check_count(found + 1, 4, sampled, "train")
    with pytest.raises(UserError, match=words):
        few_shot.check_count(found, 4, sampled, "train")


# ---- What fits.


def test_the_last_demonstrations_are_dropped_until_the_prompt_fits():
    template = Template("", "|", "{question}", "{input}={target}")
    prompts = [template.prompt(SHOWN[:k], "q") for k in range(3)]
    lengths = [len(prompt) + 1 for prompt in prompts]
    for limit in range(lengths[-1] + 2):
        fitting = [k for k in range(3) if lengths[k] <= limit]
        assert few_shot.fit(prompts, lambda text: len(text) + 1, limit) == max(fitting, default=0)
    assert few_shot.fit(prompts, len, None) == 2


def test_counts_are_reported():
    described = few_shot.describe_counts(Counter({2: 1000, 4: 3}), 4, 256)
    assert few_shot.report_counts(described, "task train") == (
        "demonstrations of task train: 3 with 4, 1,000 with 2 (where they do not fit inputs=256, the last are "
        "dropped); 4 examples are left out: they are demonstrations"
    )
    assert few_shot.report_counts(few_shot.describe_counts(Counter({0: 3}), 0, None), "task test") is None
    whole = few_shot.describe_counts(Counter({4: 3}), 0, None)
    assert few_shot.report_counts(whole, "task test") == "demonstrations of task test: 3 with 4"
