"""Multi-task forms: answer and explanation as two tasks over the same examples.

    single   the answer task alone: the baseline
    mt_re    question -> answer;  question -> explanation
    mt_ra    question -> answer;  question -> answer, then explanation (post-thinking)
    mt_cot   question -> answer;  question -> explanation, then answer (chain of thought)

(Li et al. 2022, arXiv 2210.06726.) With the suffix `_shuffled`, a control, the words of each explanation are permuted.

FORMS has the texts. A prompt ends the input. Words between < and > of a target are its fixed context and carry no loss.
What stands between an answer or explanation and a context, such as the full stop, ends that part as EOS ends a target:
without a loss there, no model would learn where the part ends.
"""

import re
from typing import NamedTuple

from explainft.core.errors import UserError, nearest
from explainft.listops.configs import CONFIGS

ANSWER, EXPLANATION = TASKS = ("answer", "explanation")
SHUFFLED = "_shuffled"
STYLES = ("short", "medium", "long")  # of ListOps explanations
VOCABULARIES = ("t5", "compact")  # of the tasks of ListOps


class Texts(NamedTuple):
    """The texts of one task of a form."""

    prompt: str
    target: str


BASE_FORMS = {
    "single": {
        ANSWER: Texts("\nAnswer:", "{answer}"),
    },
    "mt_re": {
        ANSWER: Texts("\nAnswer:", "{answer}"),
        EXPLANATION: Texts("\nRationale:", "{explanation}"),
    },
    "mt_ra": {
        ANSWER: Texts("\n[Answer Prediction]:", "{answer}"),
        EXPLANATION: Texts("\n[Explanation Generation]:", "<The answer is> {answer}.< Explanation:> {explanation}"),
    },
    "mt_cot": {
        ANSWER: Texts("\n[Answer Prediction]:", "{answer}"),
        EXPLANATION: Texts("\n[Explanation Generation]:", "{explanation} Therefore,< the answer is> {answer}"),
    },
}
FORMS = BASE_FORMS | {name + SHUFFLED: texts for name, texts in BASE_FORMS.items() if EXPLANATION in texts}
# The outputs of an explanation task by the form in which they are read; those of an answer task are answers alone.
EXPLANATION_FORMS = {f"{name}_{EXPLANATION}": name for name, texts in FORMS.items() if EXPLANATION in texts}


class Span(NamedTuple):
    """A part of a target: a text with fields, and whether it is fixed context."""

    text: str
    is_context: bool


class Context(NamedTuple):
    """The fixed words of a task's targets: those at the start, and those that follow the words of `end`."""

    start: str
    end: str
    following: str


def spans(target: str) -> list[Span]:
    """Returns the spans of a target of FORMS, which joined are the target."""
    found = [Span(text, i % 2 == 1) for i, text in enumerate(re.split("<(.*?)>", target))]
    return [span for span in found if span.text]


def target_text(form: str, task: str, answer: str, explanation: str) -> str:
    """Returns the target of an example."""
    return "".join(span.text.format(answer=answer, explanation=explanation) for span in spans(FORMS[form][task].target))


def context(form: str, task: str) -> Context | None:
    """Returns the fixed words of a task's targets; None where there are none."""
    texts = spans(FORMS[form][task].target)
    places = [i for i, span in enumerate(texts) if span.is_context]
    if not places:
        return None
    start = texts[0].text if places[0] == 0 else ""
    inner = next(i for i in places if i > 0)
    return Context(start, texts[inner - 1].text.rpartition("}")[2], texts[inner].text)


def split_output(output: str, explanation_form: str) -> tuple[str, str]:
    """Returns the explanation of an explanation task's output, and what states its answer: "" where nothing does."""
    form = EXPLANATION_FORMS[explanation_form].removesuffix(SHUFFLED)
    if form == "mt_ra":
        statement, _, explanation = output.partition(" Explanation:")
        return explanation.strip(), statement
    before, mark, after = output.rpartition(" Therefore, the answer is") if form == "mt_cot" else ("", "", output)
    return (before.strip(), f"The answer is{after}") if mark else (after, "")


def training_task(dataset: str, style: str, form: str, vocabulary: str) -> str:
    """Returns the name of the task that trains a form on a ListOps config. Raises UserError for an unknown setting."""
    return _task(dataset, style, form, vocabulary, "")


def validation_task(dataset: str, style: str, form: str, vocabulary: str) -> str:
    """Returns the name of the evaluation task of the answers on the split validation."""
    return _task(dataset, style, form, vocabulary, "_eval_validation")


def _task(dataset: str, style: str, form: str, vocabulary: str, ending: str) -> str:
    for name, value, known in (
        ("DATASET", dataset, tuple(CONFIGS)),
        ("STYLE", style, STYLES),
        ("FORM", form, tuple(FORMS)),
        ("MULTITASK_VOCABULARY", vocabulary, VOCABULARIES),
    ):
        if value not in known:
            raise UserError(f"{name}={value!r} must be one of {', '.join(known)}{nearest(value, known)}")
    style = "none" if form == "single" else style  # it has no explanations
    return f"explained_{dataset}_{style}_{form}{ending}{'' if vocabulary == 't5' else '_compact'}"
