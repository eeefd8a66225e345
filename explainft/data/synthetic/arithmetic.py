"""Modular arithmetic: chains of numbers and operators, computed from left to right, each result modulo a number."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from explainft.data.questions import forms
from explainft.data.synthetic.rows import IN_DOMAIN, VERSION, Row, check_row, question_row, select

FORMS = ("answer", "explain", "check")


@dataclass(frozen=True)
class Sampler:
    """What problems are made of; all choices are uniform."""

    numbers: range = range(20)
    lengths: range = range(2, 5)  # numbers of a problem
    moduli: Sequence[int] = (5, 7, 10)
    operators: Sequence[str] = ("+", "-")

    def problem(self, rng: random.Random) -> str:
        """Returns a problem such as `mod 7: 3 + 15 - 4`."""
        length = _choice(self.lengths, rng)
        words = [str(_choice(self.numbers, rng))]
        for _ in range(length - 1):
            words += [_choice(self.operators, rng), str(_choice(self.numbers, rng))]
        return f"mod {_choice(self.moduli, rng)}: {' '.join(words)}"


SAMPLERS = dict.fromkeys(IN_DOMAIN, Sampler()) | {
    "longer": Sampler(lengths=range(5, 9)),
    "larger_numbers": Sampler(numbers=range(20, 100)),
    "other_modulus": Sampler(moduli=(6, 8, 9)),
    "other_operators": Sampler(operators=("*",)),
}
SPLITS = tuple(SAMPLERS)
_COMPUTE = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}


def rows(config: str, form: str, split: str) -> Iterator[Row]:
    """Yields the rows of a form and a split; those in domain have disjoint problems."""
    stream = "train" if split in IN_DOMAIN else split
    rng = random.Random(f"synthetic:{VERSION} {config} {stream}")
    problems = iter(lambda: SAMPLERS[split].problem(rng), None)
    for i, problem in enumerate(select(problems, split)):
        yield _row(form, problem, is_correct=i % 2 == 0)


def _row(form: str, problem: str, is_correct: bool) -> Row:
    answer, explanation = explain(problem)
    inputs = f"{form} {problem}"
    if form == "check":
        shown = explanation if is_correct else plant_error(problem)
        return check_row(f"{inputs}\n{shown}", is_correct, f"{problem}\n{shown}")
    read_as = "explain_answer" if form == "explain" else "answer"
    example = {"question": problem, "answer": str(answer), "explanation": explanation}
    return question_row(inputs, forms.target_text(read_as, str(answer), explanation), "math", read_as, **example)


def explain(problem: str, wrong_step: int | None = None, change: int = 0) -> tuple[int, str]:
    """Returns the answer and a line for each operator; the result of a zero-based `wrong_step` is changed."""
    head, _, chain = problem.partition(": ")
    modulus, words = int(head.removeprefix("mod ")), chain.split()
    value, lines = int(words[0]), []
    for step, (operator, number) in enumerate(zip(words[1::2], words[2::2], strict=True)):
        result = _COMPUTE[operator](value, int(number)) + (change if step == wrong_step else 0)
        lines.append(f"{value} {operator} {number} = {result}, mod {modulus} is {result % modulus}")
        value = result % modulus
    return value, "\n".join(lines)


def plant_error(problem: str) -> str:
    """Returns an explanation with one incorrect result, which later lines use; the same for the same problem."""
    rng = random.Random(f"synthetic:{VERSION} error {problem}")
    lines = len(problem.partition(": ")[2].split()) // 2
    return explain(problem, int(rng.random() * lines), _choice((-3, -2, -1, 1, 2, 3), rng))[1]


def _choice(values: Sequence, rng: random.Random):
    # rng.random() has the same stream on every version of Python.
    return values[int(rng.random() * len(values))]
