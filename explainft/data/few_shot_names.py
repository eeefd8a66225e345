"""The names of few-shot tasks, which `tasks.few_shot` registers. Standard library only.

    explained_<dataset>_<form>_<k>_shot               for training
    explained_<dataset>_<form>_<k>_shot_eval_<split>  for evaluation
    explained_<dataset>_<form>_<k>_shot_eval          the mixture of those

A form is one of imported questions, or a style of a ListOps config. After `_shot` stand the template where it is
another than `training`, as in `_shot_reworded`, and the seed of sampled demonstrations, as in `_shot_sampled_0`. Tasks
of ListOps on the packaged vocabulary end in `_compact`. A name is complete: no other setting changes the examples.
"""

import dataclasses
import re

from explainft.core.errors import UserError, nearest
from explainft.data.questions.forms import FORMS
from explainft.listops.configs import CONFIGS

TRAINING_TEMPLATE = "training"
STYLES = ("none", "short", "medium", "long")  # of ListOps
SOURCES = ("fixed", "sampled")  # of demonstrations
VOCABULARIES = {"t5": "", "compact": "_compact"}  # of ListOps, and the suffixes of their tasks
_NAME = re.compile(
    r"(?P<variant>explained_\w+?)_(?P<shots>\d+)_shot"
    r"(?:_(?P<template>(?!(?:sampled|eval|compact|training)(?:_|$))[a-z]+))?(?:_sampled_(?P<seed>\d+))?"
    r"(?P<eval>_eval(?:_(?P<split>\w+?))?)?(?P<compact>_compact)?"
)


@dataclasses.dataclass(frozen=True)
class FewShotName:
    """The parts of a name. `variant` is that of the same task without demonstrations, explained_<dataset>_<form>.

    `seed` is None for fixed demonstrations. `eval_split` is None for a training task and "" for the mixture.
    """

    variant: str
    shots: int
    template: str = TRAINING_TEMPLATE
    seed: int | None = None
    eval_split: str | None = None
    compact: bool = False

    @property
    def settings(self) -> str:
        """What the name has beside the variant: `4_shot_reworded`."""
        template = "" if self.template == TRAINING_TEMPLATE else f"_{self.template}"
        return f"{self.shots}_shot{template}" + ("" if self.seed is None else f"_sampled_{self.seed}")

    def __str__(self) -> str:
        ending = "" if self.eval_split is None else f"_eval_{self.eval_split}".removesuffix("_")
        return f"{self.variant}_{self.settings}{ending}{'_compact' if self.compact else ''}"


def parse(name: str) -> FewShotName | None:
    """Returns the parts of the name of a few-shot task or mixture; None for any other name."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    return FewShotName(
        variant=match["variant"],
        shots=int(match["shots"]),
        template=match["template"] or TRAINING_TEMPLATE,
        seed=None if match["seed"] is None else int(match["seed"]),
        eval_split=None if match["eval"] is None else match["split"] or "",
        compact=match["compact"] is not None,
    )


def training_task(
    dataset: str, form: str, shots: int, template: str, demonstrations: str, seed: int, vocabulary: str
) -> str:
    """Returns the name of a training task. Raises UserError for an unknown setting."""
    return str(_name(dataset, form, shots, template, demonstrations, seed, vocabulary))


def validation_task(
    dataset: str, form: str, shots: int, template: str, demonstrations: str, seed: int, vocabulary: str
) -> str:
    """Returns the name of the evaluation task on the split validation, with as many demonstrations."""
    name = _name(dataset, form, shots, template, demonstrations, seed, vocabulary)
    return str(dataclasses.replace(name, eval_split="validation"))


def _name(
    dataset: str, form: str, shots: int, template: str, demonstrations: str, seed: int, vocabulary: str
) -> FewShotName:
    of_listops = dataset.partition("-")[0] in CONFIGS
    for name, value, known in (
        ("FORM", form, STYLES if of_listops else FORMS),
        ("DEMONSTRATIONS", demonstrations, SOURCES),
        ("FEW_SHOT_VOCABULARY", vocabulary, tuple(VOCABULARIES)),
    ):
        if value not in known:
            raise UserError(f"{name}={value!r} must be one of {', '.join(known)}{nearest(value, known)}")
    if vocabulary != "t5" and not of_listops:
        raise UserError(
            f"FEW_SHOT_VOCABULARY={vocabulary!r} is for the configs of ListOps; give VOCABULARY_FILE for {dataset!r}"
        )
    for name, value in (("SHOTS", shots), ("DEMONSTRATIONS_SEED", seed)):
        if value < 0:
            raise UserError(f"{name}={value} must be at least 0")
    found = FewShotName(
        f"explained_{dataset.replace('-', '_')}_{form}",
        shots,
        template,
        seed if demonstrations == "sampled" and shots else None,
        compact=vocabulary != "t5",
    )
    if parse(str(found)) != found:
        raise UserError(f"TEMPLATE={template!r} must be lower-case letters alone, such as training or reworded")
    return found
