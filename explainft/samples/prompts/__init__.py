"""The prompts of verifiers, one file each: with `{question}` and `{solution}`, the problem's input and the candidate.

paper  that of Liu et al. 2023, the default
short  the two alone, for vocabularies of few tokens
"""

from pathlib import Path

from explainft.core.errors import UserError

PROMPTS = tuple(sorted(file.stem for file in Path(__file__).parent.glob("*.txt")))
QUESTION, SOLUTION = "{question}", "{solution}"


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
    return text


def fill_prompt(prompt: str, question: str, solution: str) -> str:
    """Returns the input of a verifier. Braces in the question and the solution stay what they are."""
    before, rest = prompt.split(QUESTION)
    between, after = rest.split(SOLUTION)
    return f"{before}{question}{between}{solution}{after}"
