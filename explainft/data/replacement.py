"""Text that T5's vocabulary cannot write, as text that it can, and back.

T5's SentencePiece model has no piece for `< { } \\ ^ ~` and the backtick, turns newlines, tabs and runs of spaces into
one space, and normalizes characters without a trace: `²` becomes `2`. `replace` writes all of them with characters that
the model has; `restore` undoes it, so restore(replace(text)) == text for any text.

    {  }  <  \\  ^     «  »  „  ®  ′       one token for one character
    newline            •  and a space      one token, since the next word takes the space; at the end of a text, •
    other characters   •  and a letter     CODES: what the five above stand for otherwise, and what is frequent
    all the rest       •20013;             the code point in decimal digits

A space has a code where the model would drop it: at the beginning and the end, and each second one of a run. What
`replace` returns holds no character that the model lacks or changes. `restore` accepts any text and leaves what it
cannot read.
"""

import re

MARK = "•"
SWAPS = {"{": "«", "}": "»", "<": "„", "\\": "®", "^": "′"}
CODES = {
    "«": "(",
    "»": ")",
    "„": ",",
    "®": "r",
    "′": "'",
    "~": "t",
    "`": "q",
    "×": "x",
    "÷": "/",
    "−": "-",
    "²": "s",
    "³": "c",
    "½": "h",
    "\t": "T",
    "\r": "R",
    "\N{NO-BREAK SPACE}": "n",
}
MARK_CODE = f"{MARK}o"
SPACE_CODE = f"{MARK}_"
# What T5's model writes, and does not change, beside MARK and the printable ASCII characters. None of them combines
# with its neighbour in a normalization.
WRITTEN = "£«\N{SOFT HYPHEN}®°»ÉÎÜßàáâäçèéêîóôöùûüăşţșțавдеиклмнорсту–—‘’“”„′€"
REST = f"[^ -~{WRITTEN}{MARK}]"  # after all other rules
NUMBER = f"{MARK}([0-9]{{1,7}});"
LONGEST_CODE = len(f"{MARK}1234567;")
LAST_CODE_POINT = 0x10FFFF
SURROGATES = (0xD800, 0xDFFF)
_REST, _NUMBER = re.compile(REST), re.compile(NUMBER)


def replacements() -> list[tuple[str, str]]:
    """Returns what `replace` puts for what, in order, before it comes to spaces at the ends and to REST."""
    codes = [(character, MARK + code) for character, code in CODES.items()]
    return [(MARK, MARK_CODE), *codes, *SWAPS.items(), ("\n", f"{MARK} "), ("  ", f" {SPACE_CODE}")]


def restorations() -> list[tuple[str, str]]:
    """Returns what `restore` puts for what, in order, after a MARK at the end and NUMBER."""
    swaps = [(to, character) for character, to in SWAPS.items()]
    codes = [(MARK + code, character) for character, code in CODES.items()]
    return [*swaps, (SPACE_CODE, " "), (f"{MARK} ", "\n"), *codes, (MARK_CODE, MARK)]


def replace(text: str) -> str:
    """Returns a text that T5's vocabulary encodes and decodes without a change."""
    for old, new in _REPLACEMENTS:
        text = text.replace(old, new)
    if text.startswith(" "):
        text = SPACE_CODE + text[1:]
    if text.endswith(" "):
        text = text[:-1] if text.endswith(f"{MARK} ") else text[:-1] + SPACE_CODE
    return _REST.sub(_number, text)


def restore(text: str) -> str:
    """Returns the text that `replace` made this of. Any other text is read as far as it holds codes."""
    if text.endswith(MARK):
        text += " "
    text = _NUMBER.sub(_character, text)
    for old, new in _RESTORATIONS:
        text = text.replace(old, new)
    return text


def restore_prefix(text: str) -> str:
    """Returns what `restore` makes of any longer text that begins so, as far as that is certain."""
    start = text.find(MARK, max(0, len(text) - (LONGEST_CODE - 1)))  # a code that may be incomplete
    return restore((text if start < 0 else text[:start]).rstrip(MARK))


def _number(match: re.Match[str]) -> str:
    number = ord(match[0])
    return match[0] if _is_surrogate(number) else f"{MARK}{number};"


def _character(match: re.Match[str]) -> str:
    number = int(match[1])
    return match[0] if number > LAST_CODE_POINT or _is_surrogate(number) else chr(number)


def _is_surrogate(number: int) -> bool:
    first, last = SURROGATES
    return first <= number <= last


_REPLACEMENTS, _RESTORATIONS = replacements(), restorations()
