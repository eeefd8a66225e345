"""Forms of ListOps problems: the answer, the explanation, one step of it, and the check of a given explanation."""

import functools
import itertools
import json
import random
from collections.abc import Iterator, Sequence

from explainft import listops
from explainft.data.synthetic.rows import IN_DOMAIN, VERSION, Row, check_row, num_rows, question_row
from explainft.listops.configs import CONFIGS, candidates, digest, split_of
from explainft.listops.explain import explain_applied
from explainft.listops.expression import Node, Tree, applications, walk

FORMS = ("answer", "explain", "step", "check")
SPLITS = (*IN_DOMAIN, "longer", "larger_numbers", "other_modulus")
OTHER_MODULUS = 7  # of SUM; the configs have 10
STYLE = "medium"

Applied = tuple[str, list[int], int]  # operator, arguments, answer


def rows(config: str, form: str, split: str) -> Iterator[Row]:
    """Yields the rows of a form and a split. Expressions of the same split are those of the dataset's config."""
    modulus = OTHER_MODULUS if split == "other_modulus" else CONFIGS[config].modulus
    for i, expression in enumerate(_expressions(config, split)):
        yield _row(form, expression, modulus, is_correct=i % 2 == 0)


def _row(form: str, expression: str, modulus: int, is_correct: bool) -> Row:
    tree = listops.parse(expression)
    inputs = f"{form} mod {modulus}: {expression}"
    if form == "check":
        shown = listops.explain(tree, STYLE, modulus) if is_correct else plant_error(expression, modulus)
        return check_row(f"{inputs}\n{shown}", is_correct, f"{expression}\n{shown}")
    if form == "step":
        line = listops.explain(tree, STYLE, modulus).partition("\n")[0]
        return question_row(inputs, line, "listops_step", "answer", question=expression, answer=line)
    style = STYLE if form == "explain" else "none"
    target = {"expression": expression, "answer": listops.evaluate(tree, modulus), "style": style, "modulus": modulus}
    return Row(inputs, listops.explain(tree, style, modulus), json.dumps(target))


@functools.lru_cache(maxsize=16)  # the forms of a split have the same ones
def _expressions(config: str, split: str) -> tuple[str, ...]:
    """Returns the first distinct expressions of a split; of other_modulus, those of the split test that have a SUM."""
    dataset_split = "test" if split == "other_modulus" else split
    stream = "train" if dataset_split in IN_DOMAIN else dataset_split
    needs_sum = split == "other_modulus"
    found: dict[str, None] = {}
    for chunk in itertools.count():
        for tree in candidates(CONFIGS[config], stream, chunk):
            expression = listops.format(tree)
            if split_of(stream, digest(expression)) == dataset_split and (not needs_sum or "[SUM" in expression):
                found[expression] = None
            if len(found) == num_rows(split):
                return tuple(found)
    raise AssertionError("a stream has no end")


def plant_error(expression: str, modulus: int) -> str:
    """Returns an explanation with one incorrect step, the same for the same expression.

    Half of them have an incorrect result that later steps use, the others a list with an incorrect number.
    """
    rng = random.Random(f"synthetic:{VERSION} error {modulus} {expression}")
    tree = listops.parse(expression)
    assert isinstance(tree, Node)
    applied = list(applications(tree, modulus))
    k = int(rng.random() * len(applied))
    operator, arguments, answer = applied[k]
    if rng.random() < 0.5:
        return _with_incorrect_result(tree, applied, k, _other(answer, rng), modulus)
    place = int(rng.random() * len(arguments))
    changed = [_other(number, rng) if i == place else number for i, number in enumerate(arguments)]
    applied[k] = operator, changed, answer
    return explain_applied(applied, applied[-1][2], STYLE)


def _other(number: int, rng: random.Random) -> int:
    """Returns a number up to 3 away from another one, not below 0."""
    near = [value for value in range(max(0, number - 3), number + 4) if value != number]
    return near[int(rng.random() * len(near))]


def _with_incorrect_result(tree: Node, applied: Sequence[Applied], k: int, result: int, modulus: int) -> str:
    operator, arguments, _ = applied[k]
    following = list(applications(_replace(tree, k, result), modulus))
    before = [*applied[:k], (operator, arguments, result)]
    later = following[len(following) - (len(applied) - k - 1) :]
    steps = [*before, *later]
    return explain_applied(steps, steps[-1][2], STYLE)


def _replace(tree: Tree, k: int, number: int) -> Tree:
    """Returns the tree whose node k, in the order of application, is replaced by a number."""
    enclosing: list[tuple[str, list[Tree]]] = [("", [])]
    closed = 0
    for part in walk(tree):
        if isinstance(part, Node):
            enclosing.append((part.operator, []))
        elif part is None:
            operator, arguments = enclosing.pop()
            enclosing[-1][1].append(number if closed == k else Node(operator, tuple(arguments)))
            closed += 1
        else:
            enclosing[-1][1].append(part)
    [replaced] = enclosing[0][1]
    return replaced
