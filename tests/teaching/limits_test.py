"""How long servers ask to wait, prices, and answers in the bodies of responses."""

import asyncio
import datetime
import itertools

import pytest

from explainft.core.errors import UserError
from explainft.data.questions.examples import Question
from explainft.teaching.exemplars import read_prompts
from explainft.teaching.limits import RateLimiter
from explainft.teaching.prices import bound, read_price
from explainft.teaching.requests import Settings, make_requests
from explainft.teaching.responses import Fault, read_answer, retry_after

NOW = datetime.datetime(2026, 3, 1, 12, 0, 0, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("Sun, 01 Mar 2026 12:01:30 GMT", 90.0),
        ("Sun, 01 Mar 2026 13:00:00 +0100", 0.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        *itertools.product(("-3", "nan", "inf", "soon", "", "99 Foo 2026", None), [None]),
    ],
)
def test_retry_after_is_seconds_or_a_date(value, seconds):
    assert retry_after(value, NOW) == seconds


@pytest.mark.parametrize(
    "body",
    [
        "null",
        "3",
        '{"choices": {}}',
        '{"choices": [3]}',
        '{"choices": [{}]}',
        '{"choices": [{"message": 3}]}',
        "[" * 9999,
    ],
)
def test_no_body_raises_anything_but_a_fault(body):
    with pytest.raises(Fault):
        read_answer(body, {}, ["\n\nQ:"], 9)


@pytest.fixture
def start(monkeypatch):
    """Returns when requests of these tokens start, on a clock that only sleeping moves."""
    now = [0.0]

    async def sleep(seconds):
        now[0] += seconds

    monkeypatch.setattr(asyncio, "sleep", sleep)

    def start(tokens, requests_per_minute=None, tokens_per_minute=None, counted=None, pause=0.0):
        async def all_of_them():
            limiter = RateLimiter(requests_per_minute, tokens_per_minute, lambda: now[0])
            times = []
            for number, one in enumerate(tokens):
                entry = await limiter.start(one)
                times.append(round(now[0], 1))
                if counted is not None:
                    limiter.correct(entry, counted)
                if pause and number == 1:
                    limiter.pause(pause)
            return times

        return asyncio.run(all_of_them())

    return start


def test_no_minute_has_more_requests_than_allowed(start):
    assert start([1] * 7, requests_per_minute=3) == [0, 0, 0, 60, 60, 60, 120]


def test_no_minute_has_more_tokens_than_allowed(start):
    assert start([40, 40, 40, 100, 10], tokens_per_minute=100) == [0, 0, 60, 120, 180]


def test_the_count_of_the_server_replaces_the_estimate(start):
    assert start([50] * 6, tokens_per_minute=100, counted=10) == [0] * 6


def test_a_pause_holds_all_requests_back(start):
    assert start([1] * 4, pause=7.0) == [0, 0, 7, 7]


def test_a_price_comes_from_an_editable_table(tmp_path):
    table = tmp_path / "prices.toml"
    table.write_text("[own]\ninput = 2\noutput = 10.0\n[bad]\ninput = -1\noutput = 1\n")
    price = read_price("own", table)
    assert price is not None and price.of(1_000_000, 100_000) == 3.0
    assert read_price("gpt-4o-mini", None) is not None and read_price("unlisted", None) is None
    with pytest.raises(UserError, match="'bad' must have input and output"):
        read_price("bad", table)


def test_tokens_are_bounded_by_the_bytes_of_the_prompt():
    question = Question("q", "Où est le café ☕?", ("ici", "là"), "ici", "", "{}")
    requests = make_requests([question], "cote", 2, read_prompts("csqa"), Settings("m", max_tokens=50))
    tokens = bound(requests)
    assert tokens.completion == 100 and tokens.prompt >= 2 * len(requests[0].prompt.encode())
