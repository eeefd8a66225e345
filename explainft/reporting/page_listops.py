"""Predictions of ListOps expressions, as the page's explorer shows them: a tree, and the steps side by side."""

from typing import Any

from explainft import listops
from explainft.evaluation.targets import Target
from explainft.reporting.verdicts import Verdict, checked_style


def listops_row(target: Target, output: str, verdict: Verdict) -> dict[str, Any]:
    """Returns what the explorer shows of a prediction."""
    example = target.example
    tree, style, modulus = listops.parse(example["question"]), checked_style(example), example["modulus"]
    gold_steps, gold_final = _parts(listops.explain(tree, style, modulus), style)
    steps, final = _parts(output, style)
    operators = listops.operators(tree)
    # Numbers as text: they may be larger than JavaScript's are exact.
    return {
        "expression": listops.format(tree),
        "values": [str(step.answer) for step in listops.steps(tree, "long", modulus)],
        "groups": {**({"operator": operators[-1]} if operators else {}), "depth": str(listops.depth(tree))},
        "gold": gold_steps,
        "goldFinal": gold_final,
        "steps": steps,
        "final": final,
        "answer": verdict.answer,
        "goldAnswer": str(example["answer"]),
        "correct": verdict.correct,
        "kind": verdict.kind,
        "step": verdict.step,
    }


def _parts(text: str, style: str) -> tuple[list[str], str]:
    """The lines that are steps, and the rest: the final answer."""
    lines = listops.lines(text)
    steps = len(listops.read(text, style).steps)
    return lines[:steps], "\n".join(lines[steps:])
