"""Names of tasks and what they specify; imports neither JAX nor SeqIO.

    explained_<config>_<style>[_compact]                for training
    explained_<config>_<style>_eval_<split>[_compact]   for evaluation, on a split of the dataset
    explained_<config>_<style>_eval[_compact]           the mixture of the style's evaluation tasks

Imported questions have a dataset and a form in place of a config and a style, see explainft.data.questions.names.

The dataset's split in the name of an evaluation task, its `eval_split`, is not SeqIO's split: SeqIO has all examples of
such a task under the two names "validation" and "test", its `seqio_split`.
"""

import re
from typing import NamedTuple

from explainft.data import few_shot_names
from explainft.data.questions.names import form_of
from explainft.listops.configs import CONFIGS, Config

_EVALUATION = re.compile("(.+)_eval_(.+?)(?:_compact)?")


class EvaluationName(NamedTuple):
    """The parts of an evaluation task's name: `explained_tiny_medium` and `larger_numbers`."""

    variant: str
    eval_split: str


def parse_evaluation(task: str) -> EvaluationName:
    """Returns the parts of an evaluation task's name; a name that is not one is its own split, of no variant."""
    match = _EVALUATION.fullmatch(task)
    return EvaluationName(match[1], match[2]) if match else EvaluationName("", task)


def config_and_style(variant: str) -> tuple[str, str]:
    """Splits a variant: `explained_tiny_25_96_medium` is of config `tiny_25_96` and style `medium`.

    One of imported questions has a dataset and a form: `explained_homes_explain_answer` gives `homes` and
    `explain_answer`. A few-shot variant keeps what it has beside them: the style `medium_2_shot`.
    """
    few_shot = few_shot_names.parse(variant)
    if few_shot is not None:
        config, style = config_and_style(few_shot.variant)
        return config, f"{style}_{few_shot.settings}"
    base = variant.removeprefix("explained_")
    form = form_of(base)
    if form is not None:
        return base.removesuffix(f"_{form}"), form
    config, _, style = base.rpartition("_")
    return config, style


def evaluation_mixture(task: str) -> str:
    """Returns the mixture of a training task: explained_tiny_medium_eval_compact of explained_tiny_medium_compact."""
    base = task.removesuffix("_compact")
    return f"{base}_eval{task[len(base) :]}"


def listops_config(task: str) -> Config | None:
    """Returns the config of a task's expressions; None where the name holds none."""
    names = [name for name in CONFIGS if task.startswith(f"explained_{name}_")]
    return CONFIGS[max(names, key=len)] if names else None
