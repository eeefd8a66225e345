"""The problems by name."""

from explainft.core.errors import UserError, nearest
from explainft.problems.choice import Choice
from explainft.problems.listops import ListOps, ListOpsStep
from explainft.problems.math import Math
from explainft.problems.problem import Problem
from explainft.problems.text import Text

PROBLEMS: dict[str, Problem] = {
    problem.name: problem for problem in (ListOps(), Choice(), Math(), Text(), ListOpsStep())
}


def get_problem(name: str) -> Problem:
    """Returns the problem of that name. Raises UserError for an unknown one."""
    if name not in PROBLEMS:
        raise UserError(f"unknown problem {name!r}{nearest(name, PROBLEMS)}")
    return PROBLEMS[name]
