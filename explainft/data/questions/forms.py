"""The texts of a question: its input, and its target in each form. Standard library only.

    answer          the answer alone
    explain_answer  the explanation, then the line "The answer is ANSWER" (chain of thought)
    answer_explain  the line "The answer is ANSWER", then the explanation (post-thinking)

`tasks.questions` makes the same texts in TensorFlow. explainft.data.multitask has the multi-task forms, whose
answer tasks have outputs of the form `answer`.
"""

from collections.abc import Sequence

from explainft.data import multitask

FORMS = ("answer", "explain_answer", "answer_explain")
READABLE = (*FORMS, *multitask.EXPLANATION_FORMS)  # forms of outputs
STATEMENT = "The answer is "


def input_text(question: str, choices: Sequence[str] = ()) -> str:
    """Returns the question, with a line such as "(a) aquarium" for each choice."""
    return "\n".join([question, *(f"{letter(i)} {choice}" for i, choice in enumerate(choices))])


def letter(index: int) -> str:
    """Returns the mark of a choice: (a) to (z), then (27) and on."""
    return f"({chr(ord('a') + index)})" if index < 26 else f"({index + 1})"


def target_text(form: str, answer: str, explanation: str = "") -> str:
    """Returns the target. Without an explanation, both forms that explain state the answer alone."""
    if form == "answer":
        return answer
    if form in multitask.EXPLANATION_FORMS:
        return multitask.target_text(multitask.EXPLANATION_FORMS[form], multitask.EXPLANATION, answer, explanation)
    statement = STATEMENT + answer
    parts = (explanation, statement) if form == "explain_answer" else (statement, explanation)
    return "\n".join(part for part in parts if part)


def answer_part(output: str, form: str) -> str:
    """Returns the part of an output that states its answer; all of it where no part does."""
    if form in multitask.EXPLANATION_FORMS:
        return multitask.split_output(output, form)[1] or output
    before, statement, after = _split(output, form)
    return statement or before + after


def explanation_part(output: str, form: str) -> str:
    """Returns the part of an output that explains; nothing for the form `answer`."""
    if form == "answer":
        return ""
    if form in multitask.EXPLANATION_FORMS:
        return multitask.split_output(output, form)[0]
    before, _, after = _split(output, form)
    return (before + after).strip("\n")


def _split(output: str, form: str) -> tuple[str, str, str]:
    """Returns what stands before the statement, the statement, and what stands after it."""
    if form == "explain_answer":
        at = output.rfind("\n" + STATEMENT) + 1
        if at or output.startswith(STATEMENT):
            return output[:at], output[at:], ""
    if form == "answer_explain" and output.startswith(STATEMENT):
        statement, newline, explanation = output.partition("\n")
        return "", statement, newline + explanation
    return output, "", ""
