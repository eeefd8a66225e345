"""ListOps expressions: trees of MIN, MAX, MED and SUM over numbers, their texts and their values.

A tree is a number or a `Node`. Every walk is a loop over an explicit stack, so nesting is bounded by memory, not by
Python's recursion limit.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from explainft.core.errors import UserError, nearest

OPERATORS = ("MIN", "MAX", "MED", "SUM")
# The released files spell two operators in two ways each.
SPELLINGS = {name: name for name in OPERATORS} | {"MEDIAN": "MED", "SM": "SUM"}
FORMS = ("bracket", "parenthesized")
MAX_DIGITS = 18  # of a number in an expression: it fits in 64 bits
_TOO_LARGE = 10**MAX_DIGITS

_TOKEN = re.compile(r"\[\s*[^\s\[\]()]*|[\]()]|[^\s\[\]()]+")


class ListOpsError(UserError):
    """An invalid ListOps expression, operator, form or style."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Node:
    """An operator with one or more arguments in their order. It compares, hashes and pickles by its text."""

    operator: str
    arguments: tuple["Tree", ...]

    def __post_init__(self):
        if self.operator not in OPERATORS:
            raise ListOpsError(f"unknown operator {self.operator!r}{nearest(self.operator, OPERATORS)}")
        if not isinstance(self.arguments, tuple) or not self.arguments:
            raise ListOpsError(f"{self.operator} needs a tuple of one or more arguments, got {self.arguments!r}")
        for argument in self.arguments:
            if not isinstance(argument, Node) and not (type(argument) is int and 0 <= argument < _TOO_LARGE):
                raise ListOpsError(
                    f"an argument of {self.operator} must be a Node or an integer of 0 or more and at most "
                    f"{MAX_DIGITS} digits, got {type(argument).__name__} {argument!r}"
                )

    def __repr__(self) -> str:
        return format(self)

    def __eq__(self, other: object) -> bool:
        return format(self) == format(other) if isinstance(other, Node) else NotImplemented

    def __hash__(self) -> int:
        return hash(format(self))

    def __reduce__(self):
        return parse, (format(self),)


Tree = int | Node


def parse(text: str) -> Tree:
    """Reads the classic form `[MAX 2 [MIN 4 7 ] ]` and the parenthesized form, in every released spelling.

    Whitespace between tokens is free, and optional beside a bracket. A bare number is a tree. Raises ListOpsError with
    the zero-based character, what was expected and what was found.
    """
    tokens = list(_TOKEN.finditer(text))
    enclosing: list[tuple[str, list[Tree], int]] = []  # operator and arguments around the open node, and its start
    operator, arguments = "", []  # of the innermost open node; outside of all, the complete tree
    for token in tokens:
        word, at = token[0], token.start()
        if word in "()":
            continue  # brackets alone give the tree; parentheses are checked below
        if arguments and not enclosing:
            raise _mismatch(at, "the end of the text", word)
        if word[0] == "[":
            enclosing.append((operator, arguments, at))
            operator, arguments = _operator(word[1:].lstrip(), at), []
        elif word == "]":
            if not enclosing:
                raise _mismatch(at, "a number or '[' with an operator", word)
            if not arguments:
                raise _mismatch(at, f"an argument of {operator}", word)
            node = Node(operator, tuple(arguments))
            operator, arguments, _ = enclosing.pop()
            arguments.append(node)
        else:
            arguments.append(_number(word, at))
    if enclosing:
        raise _mismatch(len(text), f"']' to close the {operator} at character {enclosing[-1][2]}", "")
    if not arguments:
        raise _mismatch(len(text), "a number or '[' with an operator", "")
    [tree] = arguments
    if "(" in text or ")" in text:
        _check_parentheses(text, tokens, tree)
    return tree


def _operator(name: str, at: int) -> str:
    if name in SPELLINGS:
        return SPELLINGS[name]
    if not name:
        raise _mismatch(at, f"an operator ({', '.join(OPERATORS)}) after '['", "[")
    raise ListOpsError(f"at character {at}: unknown operator {_clip(name)}{nearest(name[:40].upper(), SPELLINGS)}")


def _number(word: str, at: int) -> int:
    if not (word.isascii() and word.isdigit()):
        raise _mismatch(at, "an integer of 0 or more, '[' with an operator or ']'", word)
    if len(word) > MAX_DIGITS:
        raise ListOpsError(f"at character {at}: expected at most {MAX_DIGITS} digits, found a number of {len(word)}")
    return int(word)


def _check_parentheses(text: str, tokens: list[re.Match[str]], tree: Tree) -> None:
    """Raises ListOpsError where the parentheses differ from those of the tree, `( operator argument )` each."""
    for token, expected in zip_longest(tokens, format(tree, "parenthesized").split()):
        found, at = (token[0], token.start()) if token else ("", len(text))
        if found != expected and (found in ("(", ")", "") or expected in ("(", ")", None)):
            raise _mismatch(at, repr(expected) if expected else "the end of the text", found)


def _mismatch(at: int, expected: str, found: str) -> ListOpsError:
    return ListOpsError(
        f"at character {at}: expected {expected}, found {_clip(found) if found else 'the end of the text'}"
    )


def _clip(word: str) -> str:
    return repr(word if len(word) <= 40 else word[:40] + "...")


def walk(tree: Tree) -> Iterator[Node | int | None]:
    """Yields nodes and numbers in their order, and None where a node closes."""
    levels: list[Iterator[Tree]] = [iter((tree,))]
    while True:
        for part in levels[-1]:
            yield part
            if isinstance(part, Node):
                levels.append(iter(part.arguments))
                break
        else:
            levels.pop()
            if not levels:
                return
            yield None


def applications(tree: Tree, modulus: int = 10) -> Iterator[tuple[str, list[int], int]]:
    """Yields every operator after its arguments, depth first, with the arguments' values and its answer."""
    if not (type(modulus) is int and 0 < modulus <= 10**MAX_DIGITS):
        raise ListOpsError(f"modulus={modulus!r} must be an integer from 1 to 10**{MAX_DIGITS}")
    enclosing: list[tuple[str, list[int]]] = []
    operator, arguments = "", []
    for part in walk(tree):
        if isinstance(part, Node):
            enclosing.append((operator, arguments))
            operator, arguments = part.operator, []
        elif part is None:
            answer = apply(operator, arguments, modulus)
            yield operator, arguments, answer
            operator, arguments = enclosing.pop()
            arguments.append(answer)
        else:
            arguments.append(part)


def apply(operator: str, arguments: Sequence[int], modulus: int) -> int:
    """Returns the answer. SUM is modulo `modulus`; MED of an even count is the floored mean of the middle two."""
    if operator == "MIN":
        return min(arguments)
    if operator == "MAX":
        return max(arguments)
    if operator == "SUM":
        return sum(arguments) % modulus
    middle = median_values(arguments)
    return sum(middle) // len(middle)


def median_values(arguments: Sequence[int]) -> list[int]:
    """Returns the middle value of the sorted arguments, or the middle two of an even count."""
    return sorted(arguments)[(len(arguments) - 1) // 2 : len(arguments) // 2 + 1]


def evaluate(tree: Tree, modulus: int = 10) -> int:
    """Returns the tree's value; that of a bare number is the number."""
    answers = [answer for _, _, answer in applications(tree, modulus)]
    return tree if isinstance(tree, int) else answers[-1]


def format(tree: Tree, style: str = "bracket") -> str:
    """Returns `[MAX 2 9 ]`, or with style "parenthesized" `( ( ( [MAX 2 ) 9 ) ] )`."""
    if style not in FORMS:
        raise ListOpsError(f"unknown form {style!r}{nearest(style, FORMS)}")
    applied = style == "parenthesized"
    # A `)` ends the application to each argument; a closing bracket is applied too, and its node is then an argument.
    close, end_argument = ("] ) )", " )") if applied else ("]", "")
    words = []
    for part in walk(tree):
        if isinstance(part, Node):
            words.append("( " * (len(part.arguments) + 1) * applied + "[" + part.operator)
        else:
            words.append(close if part is None else f"{part}{end_argument}")
    return " ".join(words).removesuffix(" )")  # the root is not an argument


def length(tree: Tree) -> int:
    """Returns the tokens of the classic form: 2 for an operator with brackets, 1 for a number, 0 for parentheses."""
    return sum(1 for _ in walk(tree))


def depth(tree: Tree) -> int:
    """Returns the number of operators on the longest path from the root; 0 for a bare number."""
    level = deepest = 0
    for part in walk(tree):
        if isinstance(part, Node):
            level += 1
            deepest = max(deepest, level)
        elif part is None:
            level -= 1
    return deepest


def operators(tree: Tree) -> list[str]:
    """Returns the operators in the order of their application: depth first, after their arguments."""
    enclosing, applied = [], []
    for part in walk(tree):
        if isinstance(part, Node):
            enclosing.append(part.operator)
        elif part is None:
            applied.append(enclosing.pop())
    return applied


def values(tree: Tree) -> list[int]:
    """Returns the numbers in their order."""
    return [part for part in walk(tree) if type(part) is int]
