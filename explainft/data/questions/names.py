"""The names of the tasks of an imported dataset, which `tasks.questions` registers. Standard library only.

explained_<name>_<form>               for training
explained_<name>_<form>_eval_<split>  for evaluation
explained_<name>_<form>_eval          the mixture of those

A multi-task form adds the tasks of its parts, such as explained_<name>_<form>_explanation_eval_<split>; see
tasks.multitask_forms.
"""

from explainft.core.errors import UserError, nearest
from explainft.data import multitask
from explainft.data.questions import forms

FORMS = (*forms.FORMS, *multitask.FORMS)


def training_task(dataset: str, form: str) -> str:
    """Returns the name of a training task. Raises UserError for an unknown form."""
    if form not in FORMS:
        raise UserError(f"FORM={form!r} must be one of {', '.join(FORMS)}{nearest(form, FORMS)}")
    return f"explained_{dataset}_{form}"


def validation_task(dataset: str, form: str) -> str:
    """Returns the name of the evaluation task on the split validation."""
    return f"{training_task(dataset, form)}_eval_validation"


def form_of(variant: str) -> str | None:
    """Returns the form that a task's name ends in, without `_eval...`; None where it ends in none."""
    # `explain_answer` ends in `answer`, and an `answer` of a dataset `x_explain` cannot be told from it.
    parts = [f"{form}_{task}" for form, texts in multitask.FORMS.items() if len(texts) > 1 for task in texts]
    return next(
        (form for form in sorted([*FORMS, *parts], key=len, reverse=True) if variant.endswith(f"_{form}")), None
    )
