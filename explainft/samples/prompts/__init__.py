"""The prompts of verifiers, one file each: with `{question}` and `{solution}`, the problem's input and the candidate.

paper    that of Liu et al. 2023, the default
short    the two alone, for vocabularies of few tokens
decoder  the question for the encoder, the solution for the decoder

What follows a line `{decoder}` is read by the decoder, before the label, as a generator would have written it.
"""

import re
from pathlib import Path
from typing import NamedTuple

from explainft.core.errors import UserError

PROMPTS = tuple(sorted(file.stem for file in Path(__file__).parent.glob("*.txt")))
QUESTION, SOLUTION, DECODER = "{question}", "{solution}", "\n{decoder}\n"


class VerifierInput(NamedTuple):
    """What a verifier reads: the encoder's inputs, and the text that comes before the label in the decoder."""

    inputs: str
    prefix: str = ""


def read_prompt(name: str) -> str:
    """Returns the packaged prompt of that name, or that of a file, without its last newline. Raises UserError."""
    path = Path(__file__).parent / f"{name}.txt" if name in PROMPTS else Path(name)
    try:
        text = path.read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        known = ", ".join(PROMPTS)
        raise UserError(f"cannot read --prompt={name} ({error}); give {known} or a UTF-8 text file") from error
    if text.count(QUESTION) != 1 or text.count(SOLUTION) != 1 or text.index(QUESTION) > text.index(SOLUTION):
        raise UserError(f"--prompt={name} must contain {QUESTION} and then {SOLUTION}, each once")
    if text.count(DECODER) > 1 or (DECODER in text and not text.index(QUESTION) < text.index(DECODER)):
        raise UserError(f"--prompt={name} must have the line {DECODER.strip()} once, after {QUESTION}")
    return text


def has_prefix(prompt: str) -> bool:
    """Returns whether a part of the prompt is read by the decoder."""
    return DECODER in prompt


def fill_prompt(prompt: str, question: str, solution: str) -> VerifierInput:
    """Returns the input of a verifier. Braces in the question and the solution stay what they are."""
    texts = {QUESTION: question, SOLUTION: solution}
    filled = [re.sub(r"{question}|{solution}", lambda found: texts[found[0]], part) for part in prompt.split(DECODER)]
    return VerifierInput(*filled)
