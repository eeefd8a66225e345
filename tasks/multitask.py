"""SeqIO tasks that train ListOps answers and explanations as two tasks. `import tasks.multitask` opens nothing.

    explained_<config>_<style>_<form>                           for training: both tasks' rows of an expression
    explained_<config>_<style>_<form>_answer, ..._explanation   for training: the rows of one task
    explained_<config>_<style>_<form>_mixture                   the mixture of those two
    explained_<config>_<style>_<form>_eval_<split>              for evaluation: the answer task
    explained_<config>_<style>_<form>_explanation_eval_<split>  for evaluation: the explanation task
    explained_<config>_<style>_<form>_eval                      the mixture of all evaluation tasks

each on T5's vocabulary, and again with the suffix _compact. Forms are those of explainft.data.multitask, styles short,
medium and long; the form single, which has no explanations, has the style none. `tasks.questions` registers the same
for imported questions: explained_<name>_<form> and the others.
"""

import functools
from collections.abc import Sequence

import seqio

from explainft.data import multitask
from explainft.evaluation import metrics
from explainft.evaluation.targets import postprocess_listops
from explainft.listops.configs import CONFIGS, EVAL_SPLITS
from tasks import TRAINING_SPLITS, VOCABULARIES, multitask_forms
from tasks.sources import ExplainedListopsSource


def register_datasets() -> None:
    """Registers the tasks of all configs."""
    for config in CONFIGS:
        for suffix, vocabulary in VOCABULARIES.items():
            for style in ("none", *multitask.STYLES):
                _register(config, style, suffix, vocabulary)


def _register(config: str, style: str, suffix: str, vocabulary: seqio.Vocabulary) -> None:
    def add_task(name: str, splits: dict[str, str], form: str, tasks: Sequence[str]) -> None:
        multitask_forms.add_task(
            name,
            ExplainedListopsSource(config, splits),
            functools.partial(multitask_forms.listops_rows, style=style, form=form, tasks=tasks),
            vocabulary,
            functools.partial(postprocess_listops, style=style, modulus=CONFIGS[config].modulus, form=form),
            [metrics.score],
        )

    forms = [form for form in multitask.FORMS if (form == "single") == (style == "none")]
    prefix = f"explained_{config}_{style}"
    multitask_forms.register(prefix, suffix, add_task, TRAINING_SPLITS, {split: split for split in EVAL_SPLITS}, forms)


register_datasets()
