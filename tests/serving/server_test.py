"""The server under the official client: many requests at once, clients that leave, and how it ends."""

import random
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from explainft.evaluation.infer import PRETRAINED
from explainft.serving.server import check_host
from tests.helpers.command import outcome
from tests.helpers.datasets import environment
from tests.serving.requests import EXPRESSIONS, MODEL

SAMPLED = {"model": MODEL, "temperature": 2, "top_p": 0.99, "max_tokens": 40}
UNUSUAL = "] 9 SUM ] [MIN [MAX 3 ["  # of which the model is unsure


def idle(service, seconds=10):
    """Returns whether no output runs or waits, after a while at most."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not service.engine.metrics.running and not service.engine.metrics.waiting:
            return True
        time.sleep(0.02)
    return False


def ask(client, prompt, **settings):
    found = client.completions.create(**{"model": MODEL, "temperature": 0, **settings}, prompt=prompt)
    return found.choices[0].text


def test_200_requests_at_32_equal_offline_greedy(client, greedy_texts):
    prompts = [EXPRESSIONS[i % len(EXPRESSIONS)] for i in range(200)]
    with ThreadPoolExecutor(32) as pool:
        texts = list(pool.map(lambda prompt: ask(client, prompt), prompts))
    assert texts == [greedy_texts[prompt] for prompt in prompts]
    assert len(set(texts)) == len(EXPRESSIONS)


def test_chat_answers_the_last_user_message(client, greedy_texts):
    messages = [("system", "Be brief."), ("user", "[MIN 1 2 ]"), ("assistant", "1"), ("user", EXPRESSIONS[2])]
    found = client.chat.completions.create(
        model=MODEL, temperature=0, messages=[{"role": role, "content": text} for role, text in messages]
    )
    assert found.choices[0].message.content == greedy_texts[EXPRESSIONS[2]]
    assert found.choices[0].finish_reason == "stop"


def leave(client, seed):
    """Leaves after some chunks of a stream, or without waiting for an answer, queued or running."""
    random_ = random.Random(seed)
    if seed % 2:
        with client.completions.create(**SAMPLED, prompt=EXPRESSIONS[0], n=4, stream=True) as stream:
            for _ in zip(range(random_.randrange(6)), stream, strict=False):
                pass
        return
    with pytest.raises(openai.APITimeoutError):
        client.completions.create(**SAMPLED, prompt=EXPRESSIONS[1], n=5, timeout=random_.uniform(0.001, 0.01))


def crowd(client, service, greedy_texts, leaving):
    with ThreadPoolExecutor(12) as pool:
        left = [pool.submit(leave, client, seed) for seed in range(leaving)]
        stayed = [pool.submit(ask, client, prompt) for prompt in EXPRESSIONS * 3]
        for one in left:
            try:
                one.result()
            except openai.APIStatusError as error:
                assert error.status_code == 503
        assert [one.result() for one in stayed] == [greedy_texts[prompt] for prompt in EXPRESSIONS] * 3
    assert idle(service)


def test_clients_that_leave_free_their_rows_and_hurt_no_other(client, service, greedy_texts):
    before = service.engine.metrics.cancelled
    crowd(client, service, greedy_texts, leaving=16)
    assert service.engine.metrics.cancelled > before


def test_seeded_sample_does_not_depend_on_neighbours(client):
    seeded = {**SAMPLED, "prompt": UNUSUAL, "seed": 7}
    alone = [choice.text for choice in client.completions.create(**seeded, n=3).choices]
    assert len(set(alone)) == 3
    with ThreadPoolExecutor(8) as pool:
        others = [
            pool.submit(client.completions.create, **{**SAMPLED, "top_p": 1.0}, prompt=UNUSUAL, n=1 + i % 3)
            for i in range(12)
        ]
        beside = [pool.submit(client.completions.create, **seeded, n=n) for n in (1, 2, 3)]
        for n, one in enumerate(beside, 1):
            assert [choice.text for choice in one.result().choices] == alone[:n]
        assert len({one.result().choices[0].text for one in others}) > 8  # without a seed a fresh one is drawn


@pytest.mark.parametrize("settings", [{}, {"stop": ["is 9", "Final"]}, {"n": 3, "temperature": 1.2, "seed": 5}])
def test_streaming_equals_whole(client, settings):
    request = {"model": MODEL, "temperature": 0, "prompt": EXPRESSIONS[:2], "logprobs": 2, **settings}
    whole = client.completions.create(**request)
    stream = list(client.completions.create(**request, stream=True, stream_options={"include_usage": True}))
    assert stream[-1].usage == whole.usage and not stream[-1].choices
    assert len(stream) > len(whole.choices) + 1
    for choice in whole.choices:
        chunks = [chunk.choices[0] for chunk in stream[:-1] if chunk.choices[0].index == choice.index]
        assert "".join(chunk.text for chunk in chunks) == choice.text
        assert [chunk.finish_reason for chunk in chunks][-1:] == [choice.finish_reason]
        parts = [chunk.logprobs for chunk in chunks]
        assert sum((part.tokens for part in parts), []) == choice.logprobs.tokens
        assert sum((part.text_offset for part in parts), []) == choice.logprobs.text_offset
        values = sum((part.token_logprobs for part in parts), [])
        assert values == pytest.approx(choice.logprobs.token_logprobs, abs=1e-4)


def test_a_chat_stream_has_the_role_first(client, greedy_texts):
    messages = [{"role": "user", "content": EXPRESSIONS[0]}]
    stream = list(client.chat.completions.create(model=MODEL, temperature=0, messages=messages, stream=True))
    assert stream[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in stream) == greedy_texts[EXPRESSIONS[0]]


def test_models_are_listed(client):
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt")


@pytest.fixture
def command():
    """Runs the real command on a free port; yields its process and the base URL."""
    words = ["serve", PRETRAINED, "--port", "0", "--batch_size", "4"]
    words += ["--max_input_tokens", "32", "--max_output_tokens", "64", "--model_name", "shipped"]
    process = subprocess.Popen(
        [sys.executable, "-m", "explainft.cli.main", *map(str, words)],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("shipped is served at http://127.0.0.1:"), line
        yield process, line.split()[-1]
        process.kill()


def test_sigterm_finishes_what_runs_and_exits_with_0(command):
    process, address = command
    with openai.OpenAI(base_url=address, api_key="none", max_retries=0) as client:
        request = {"model": "shipped", "prompt": EXPRESSIONS[0], "temperature": 0.7, "n": 16, "seed": 1}
        expected = [choice.text for choice in client.completions.create(**request).choices]
        stream = client.completions.create(**request, stream=True)
        texts, first = [""] * 16, next(iter(stream))  # 4 run, 12 wait
        process.send_signal(signal.SIGTERM)
        for chunk in [first, *stream]:
            texts[chunk.choices[0].index] += chunk.choices[0].text
        assert texts == expected
    assert process.wait(30) == 0
    assert process.stderr is not None and process.stderr.read() == ""


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--host", "0.0.0.0"), "--host=0.0.0.0 is open to others; set EXPLAINFT_API_KEY to a secret of yours"),
        (("--port", "70000"), "--port=70000 must be from 0, any free one, to 65535"),
        (("--max_queued", "0"), "argument --max_queued: '0' must be a positive integer"),
    ],
)
def test_wrong_flags_end_in_one_line(capfd, monkeypatch, words, line):
    monkeypatch.delenv("EXPLAINFT_API_KEY", raising=False)
    code, _, err = outcome(capfd, "serve", PRETRAINED, *words)
    assert code == 2 and line in err and err.count("\n") == 1


def test_a_port_in_use_ends_in_one_line(capfd):
    with socket.create_server(("127.0.0.1", 0)) as other:
        code, _, err = outcome(capfd, "serve", PRETRAINED, "--port", other.getsockname()[1])
    assert code == 2 and "Address already in use" in err and err.count("\n") == 1


def test_only_loopback_needs_no_key():
    for host in ("127.0.0.1", "::1", "localhost", "127.8.8.8"):
        check_host(host, None)
    check_host("0.0.0.0", "secret")


@pytest.mark.slow
def test_50_clients_leave_and_memory_stays_flat_over_2000_requests(client, service, greedy_texts):
    crowd(client, service, greedy_texts, leaving=50)

    def resident() -> int:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) * 1024

    def many(count: int) -> None:
        with ThreadPoolExecutor(32) as pool:
            list(pool.map(lambda i: ask(client, EXPRESSIONS[i % 8], temperature=i % 3 / 2), range(count)))

    many(500)
    threads, before = threading.active_count(), resident()
    many(2000)
    assert idle(service)
    print(f"resident memory: {before:,} bytes before, {resident():,} after 2,000 requests")
    assert resident() - before < 10e6
    assert threading.active_count() <= threads + 2
