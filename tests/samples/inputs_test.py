"""Which task a run's samples of a dataset are of."""

import pytest

from explainft.samples.inputs import dataset_task

LISTOPS = {"explanation": {"style": "short", "modulus": 10}}
QUESTIONS = {"explanation": None, "questions": {"problem": "math", "form": "explain_answer"}}


@pytest.mark.parametrize(
    ("meta", "dataset", "task"),
    [
        (LISTOPS | {"task": "explained_tiny_short_2_shot_reworded_compact"}, "tiny_gaps",
         "explained_tiny_gaps_short_2_shot_reworded_eval_test_compact"),
        (QUESTIONS | {"task": "explained_homes_explain_answer_4_shot_sampled_3"}, "shop",
         "explained_shop_explain_answer_4_shot_sampled_3_eval_test"),
    ],
)  # fmt: skip
def test_a_run_of_few_shot_prompts_has_the_same_prompts(meta, dataset, task):
    assert dataset_task(meta, dataset, "test") == (task, "tasks.few_shot")
