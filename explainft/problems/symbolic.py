"""Equality of LaTeX by Math-Verify (the extra `math`), in a process of its own with a time limit."""

import atexit
import functools
import importlib.util
import json
import re
import selectors
import subprocess
import sys

SECONDS = 1.0  # for one comparison; `2003^{2002^{2001}}` would take forever
MAX_LENGTH = 1000  # characters of an answer
# What Math-Verify reads in part alone, or takes for equal that is not: factorials, times of day, plus-minus signs,
# subscripts (52_8), signs in a row, an exponent that is missing, and what is not ASCII (1²).
_LEFT_ALONE = re.compile(r"!|\d:\d|\\pm|\\mp|_|[-+]\s*[-+]|\^\s*$|['?@]|[^\x00-\x7f]")
_RELATION = re.compile(r"[<>]|\\(?:[gl]eq?|[gl]t|neq?|approx|sim)(?![A-Za-z])")  # \geq 5 is not 5
_WORKER = """
import json, sys
from math_verify import parse, verify
from math_verify.parser import LatexExtractionConfig, ExprExtractionConfig
print('ready', flush=True)
for line in sys.stdin:
    try:
        gold, answer = (parse(f"${text}$", parsing_timeout=None) for text in json.loads(line))
        print(json.dumps(bool(gold and answer and verify(gold, answer, timeout_seconds=None))), flush=True)
    except Exception:
        print("false", flush=True)
"""


@functools.cache  # the search of the paths took most of the time of a comparison
def available() -> bool:
    """Returns whether the extra `math` is installed."""
    return importlib.util.find_spec("math_verify") is not None


@functools.lru_cache(maxsize=4096)
def equal(answer: str, other: str) -> bool:
    """Returns whether two LaTeX answers are equal in Math-Verify; False past the time limit or without the extra."""
    if max(len(answer), len(other)) > MAX_LENGTH or _LEFT_ALONE.search(answer) or _LEFT_ALONE.search(other):
        return False
    if len(_RELATION.findall(answer)) != len(_RELATION.findall(other)):
        return False
    if not available():
        _say_once()
        return False
    return _ask(json.dumps([other, answer]))


@functools.cache
def _say_once() -> None:
    print("note: LaTeX answers are compared as text; pip install 'explainft[math]' compares values", file=sys.stderr)


_worker: subprocess.Popen[str] | None = None


def _ask(question: str) -> bool:
    global _worker
    if _worker is None or _worker.poll() is not None:
        _worker = _started()
    assert _worker.stdin is not None and _worker.stdout is not None
    try:
        _worker.stdin.write(question + "\n")
        _worker.stdin.flush()
    except OSError:
        _stop()
        return False
    with selectors.DefaultSelector() as ready:
        ready.register(_worker.stdout, selectors.EVENT_READ)
        if not ready.select(SECONDS):
            _stop()
            return False
    return _worker.stdout.readline().strip() == "true"


def _started() -> subprocess.Popen[str]:
    worker = subprocess.Popen(
        [sys.executable, "-c", _WORKER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert worker.stdout is not None
    worker.stdout.readline()
    return worker


@atexit.register
def _stop() -> None:
    global _worker
    if _worker is not None:
        _worker.kill()
        _worker.communicate()
        _worker = None
