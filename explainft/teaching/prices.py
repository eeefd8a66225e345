"""What requests cost: their tokens, and the prices of an editable table."""

import math
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from explainft.core.errors import UserError
from explainft.teaching.requests import Request

TABLE = Path(__file__).with_name("prices.toml")
CHAT_TOKENS = 16  # around a prompt: roles and separators
BYTES_PER_TOKEN = 4  # of English text, about


class Price(NamedTuple):
    """US dollars for a million tokens."""

    input: float
    output: float

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        return (self.input * prompt_tokens + self.output * completion_tokens) / 1e6


def read_price(model: str, table: Path | None) -> Price | None:
    """Returns the price of a model, None where the table has none. Raises UserError for a table that is not one."""
    path = table or TABLE
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8")).get(model)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UserError(f"cannot read --prices={path} ({reason}); give a copy of {TABLE}") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not TOML ({error}); correct it") from error
    if found is None:
        return None
    row: dict[str, Any] = found if isinstance(found, dict) else {}
    values = [row.get(name, -1.0) for name in Price._fields]
    if not all(type(value) in (int, float) and 0 <= value < math.inf for value in values):
        raise UserError(f"{path}: {model!r} must have input and output, dollars for a million tokens")
    return Price(*map(float, values))


def max_prompt_tokens(request: Request) -> int:
    """Returns a bound: tokenizers of bytes make at most one token of each byte."""
    return len(request.prompt.encode("utf-8", "surrogatepass")) + CHAT_TOKENS


def estimated_tokens(request: Request) -> int:
    """Returns about how many tokens a request has, with the longest answer."""
    return max_prompt_tokens(request) // BYTES_PER_TOKEN + request.settings.max_tokens


class Tokens(NamedTuple):
    """The tokens of requests: at most, and the prompts' as text of four bytes a token."""

    prompt: int
    completion: int
    likely_prompt: int


def bound(requests: Iterable[Request]) -> Tokens:
    """Returns the tokens that requests have at most, when each is answered at once."""
    prompt = completion = 0
    for request in requests:
        prompt += max_prompt_tokens(request)
        completion += request.settings.max_tokens
    return Tokens(prompt, completion, prompt // BYTES_PER_TOKEN)
