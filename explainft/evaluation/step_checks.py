"""Step checks as files have them: what people read counts steps from 1."""

from collections.abc import Mapping
from typing import Any

from explainft.problems.problem import StepCheck


def check_fields(check: StepCheck) -> dict[str, Any]:
    """Returns the fields of a step check."""
    return {
        "steps_total": check.total,
        "steps_correct": check.correct,
        "first_wrong_step_number": None if check.first_wrong_step is None else check.first_wrong_step + 1,
        "steps_unreadable": check.unreadable,
    }


def read_check(fields: Any) -> StepCheck | None:
    """Returns the step check with these fields; None where they are not those of one."""
    if not isinstance(fields, Mapping):
        return None
    total: Any = fields.get("steps_total")
    correct: Any = fields.get("steps_correct")
    unreadable: Any = fields.get("steps_unreadable", 0)
    first: Any = fields.get("first_wrong_step_number")
    if any(type(n) is not int or n < 0 for n in (total, correct, unreadable, 1 if first is None else first)):
        return None
    return StepCheck(correct, total - correct - unreadable, unreadable, None if first is None else first - 1)
