"""Few-shot prompts: k demonstrations before each input (FTICL, Yang et al. 2024, arXiv 2403.09162).

A task's inputs become prompts, and its targets stay: the loss is on the target alone, as the encoder reads the
demonstrations. They are fixed, the same for every example, or sampled for each. An example has neither itself nor a
question equal to it among its own. Where they do not fit, whole demonstrations are dropped, the last first.

`tasks.few_shot_rows` does the same in TensorFlow. Standard library only.
"""

import dataclasses
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from explainft.core.errors import UserError

REGISTERED_SHOTS = range(9)
DEMONSTRATIONS = "num_demonstrations"  # feature of an example: how many its prompt has
POOL = 10_000  # training questions that demonstrations are sampled from: the first ones
_PACKAGED = Path(__file__).with_name("few_shot_templates")
TEMPLATES = tuple(sorted(file.stem for file in _PACKAGED.glob("*.toml")))
_PLACEHOLDERS = {"instruction": (), "separator": (), "input": ("question",), "demonstration": ("input", "target")}
_MASK = 2**64 - 1
PRIME, GOLDEN = 0x100000001B3, 0x9E3779B97F4A7C15  # FNV's, and that of SplitMix64
MULTIPLIERS = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB  # SplitMix64's


class Demonstration(NamedTuple):
    """The input and the target of a task's example."""

    input: str
    target: str


class Pool(NamedTuple):
    """Demonstrations to choose from, no two of them the same question after normalization.

    `equal` maps the input of each example whose question is one of them to its place.
    """

    demonstrations: Sequence[Demonstration]
    equal: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class Template:
    """The words of a prompt: `input` has {question}, `demonstration` has {input} and {target}."""

    instruction: str
    separator: str
    input: str
    demonstration: str

    def prompt(self, demonstrations: Iterable[Demonstration], question: str) -> str:
        """Returns the input of an example. Braces in its texts stay what they are."""
        shown = [
            fill(self.demonstration, {"input": fill(self.input, {"question": one.input}), "target": one.target})
            for one in demonstrations
        ]
        texts = [self.instruction, *shown, fill(self.input, {"question": question})]
        return self.separator.join(texts if self.instruction else texts[1:])


def split_placeholders(text: str) -> list[str]:
    """Returns the parts of a text: placeholders, in braces, and what is between them."""
    return re.split(r"(\{\w*\})", text)


def fill(text: str, values: Mapping[str, str]) -> str:
    """Returns a text with its placeholders replaced."""
    return "".join(values.get(part[1:-1], part) if part[:1] == "{" else part for part in split_placeholders(text))


def template_file(name: str, directory: Path) -> Path:
    """Returns the file of a template: the package's, or that of the user below the directory of datasets."""
    return (_PACKAGED if name in TEMPLATES else directory / "few_shot_templates") / f"{name}.toml"


def read_template(file: Path) -> Template:
    """Reads a template. Raises UserError for a missing or unknown setting or placeholder."""
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        known = " or ".join(TEMPLATES)
        raise UserError(f"cannot read the template {file} ({reason}); set TEMPLATE to {known}, or write it") from error
    if set(found) != set(_PLACEHOLDERS) or not all(isinstance(text, str) for text in found.values()):
        raise UserError(f"the template {file} must have the texts {', '.join(_PLACEHOLDERS)}, and no others")
    for name, wanted in _PLACEHOLDERS.items():
        words = [part[1:-1] for part in split_placeholders(found[name]) if part[:1] == "{"]
        for word in words:
            if word not in wanted:
                allowed = " and ".join(f"{{{w}}}" for w in wanted) or "none"
                raise UserError(f"the template {file} has {{{word}}} in {name!r}, whose placeholders are {allowed}")
        for word in wanted:
            if words.count(word) != 1:
                raise UserError(f"the template {file} must have {{{word}}} once in {name!r}")
    return Template(**found)


# ---- The choice of demonstrations.


def check_count(found: int, shots: int, sampled: bool, origin: str) -> None:
    """Raises UserError where there are fewer demonstrations than `shots`; a sampled one must not be the example."""
    needed = shots + sampled
    if shots and found < needed:
        beside = ", one more than it shows" if sampled else ""
        raise UserError(
            f"a {shots}-shot prompt needs {needed} different demonstrations{beside}, and {origin} has {found:,}; "
            f"use at most {max(found - sampled, 0)} shots, or give more"
        )


def choose_fixed(digests: Iterable[int], shots: int, evaluated: Collection[int]) -> list[int]:
    """Returns the places of the first `shots` different questions of a training split, none of them evaluated."""
    chosen: dict[int, int] = {}
    for place, digest in enumerate(digests):
        if len(chosen) == shots:
            break
        if digest not in evaluated:
            chosen.setdefault(digest, place)
    return list(chosen.values())


def choose_sampled(pool: int, shots: int, seed: int, example_id: str, own: int | None) -> list[int]:
    """Returns the places of `shots` of a pool of demonstrations, all different and not the example's `own`.

    They depend on these arguments alone. Robert Floyd's algorithm samples one more than is needed; a random order
    follows. The pool must hold `shots + 1`.
    """
    start = mix(sum(byte * pow(PRIME, i, 2**64) for i, byte in enumerate(example_id.encode())) + seed * GOLDEN)
    chosen: list[int] = []
    for draw, top in enumerate(range(pool - shots - 1, pool)):
        place = random_integer(start, draw) % (top + 1)
        chosen.append(top if place in chosen else place)
    order = sorted(range(shots + 1), key=lambda i: random_integer(start, shots + 1 + i))
    return [chosen[i] for i in order if chosen[i] != own][:shots]


def random_integer(start: int, draw: int) -> int:
    """Returns 31 random bits."""
    return mix(start + draw) >> 33


def mix(number: int) -> int:
    """Returns SplitMix64's hash of 64 bits."""
    number = (number + GOLDEN) & _MASK
    for shift, multiplier in zip((30, 27), MULTIPLIERS, strict=True):
        number = ((number ^ (number >> shift)) * multiplier) & _MASK
    return number ^ (number >> 31)


# ---- Prompts that fit.


def fit(prompts: Sequence[str], length_of: Callable[[str], int], limit: int | None) -> int:
    """Returns how many demonstrations fit: prompts[k] has k of them, and its length counts EOS."""
    return next((k for k in reversed(range(1, len(prompts))) if limit is None or length_of(prompts[k]) <= limit), 0)


# What a task's meta keeps of its demonstrations, as JSON.


def describe_counts(shots: Counter[int], left_out: int, limit: int | None) -> dict[str, Any]:
    """Returns what a token cache keeps: examples by number of demonstrations, those left out, the limit in tokens."""
    return {"shots": {str(k): n for k, n in sorted(shots.items(), reverse=True)}, "left_out": left_out, "limit": limit}


def report_counts(described: Mapping[str, Any], of: str) -> str | None:
    """Returns a line about the demonstrations of a split; None where its prompts are to have none."""
    shots = {int(k): n for k, n in described["shots"].items()}
    if set(shots) == {0} and described["limit"] is None:
        return None
    counts = ", ".join(f"{n:,} with {k}" for k, n in shots.items())
    line = f"demonstrations of {of}: {counts}"
    if described["limit"] is not None:
        line += f" (where they do not fit inputs={described['limit']}, the last are dropped)"
    if described["left_out"]:
        line += f"; {described['left_out']:,} examples are left out: they are demonstrations"
    return line
