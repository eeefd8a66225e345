"""What the application answers, right or wrong, without a network."""

import asyncio
import dataclasses
import json
import math
import random
import time

import pytest

from explainft.serving.answers import encode
from explainft.serving.batch import Batch
from explainft.serving.engine import Engine
from explainft.serving.fields import finite
from explainft.serving.metrics import Metrics
from tests.serving.fuzz import malformed
from tests.serving.requests import EXPRESSIONS, MODEL, chat, completion, get, post, send

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
USER = {"role": "user", "content": EXPRESSIONS[0]}


@pytest.fixture(scope="module")
def app(service):
    return service.app()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"echo": True}, "echo"),
        ({"best_of": 2}, "best_of"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"suffix": "x"}, "suffix"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"frequency_penalty": -1}, "frequency_penalty"),
        ({"top_k": 5}, "top_k"),
        ({"messages": [USER]}, "messages"),
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt"),
        ({"prompt": [1, True]}, "prompt"),
        ({"prompt": [[5], []]}, "prompt"),
        ({"prompt": [0, 5]}, "prompt"),
        ({"prompt": [5, 160]}, "prompt"),
        ({"prompt": [10**30]}, "prompt"),
        ({"prompt": "\ud800"}, "prompt"),
        ({"prompt": "[MAX 1 2 ] " * 40}, "prompt"),
        ({"prompt": ["a"] * 65}, "n"),
        ({"n": 65}, "n"),
        ({"n": 0}, "n"),
        ({"n": True}, "n"),
        ({"n": 1.0}, "n"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "0"}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"max_tokens": 65}, "max_tokens"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": ""}, "stop"),
        ({"seed": 2**64}, "seed"),
        ({"seed": 0.5}, "seed"),
        ({"logprobs": 6}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"stream": 1}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"other": 1}}, "stream_options.other"),
        ({"user": 5}, "user"),
        ({"explainft": 1}, "explainft"),
        ({"explainft": [{}, {}]}, "explainft"),
        ({"explainft": {"question": "[MAX 1"}}, "explainft"),
        ({"explainft": {"answer": "5"}}, "explainft"),
    ],
)  # fmt: skip
def test_each_error_names_its_field(app, fields, param):
    reply = post(app, COMPLETIONS, completion(**fields))
    assert reply.status == 400
    assert reply.error["param"] == param and reply.error["type"] == "invalid_request_error"
    assert param.partition(".")[0] in reply.error["message"] and "\n" not in reply.error["message"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"functions": []}, "functions"),
        ({"prompt": "x"}, "prompt"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages"),
        ({"messages": [{**USER, "tool_calls": []}]}, "messages"),
        ({"messages": [{"role": "user", "content": None}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 6}, "top_logprobs"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
    ],
)
def test_each_error_of_a_chat_names_its_field(app, fields, param):
    reply = post(app, CHAT, chat(**fields))
    assert (reply.status, reply.error["param"]) == (400, param)


def test_values_that_change_nothing_are_accepted(app):
    neutral = {"echo": False, "best_of": 1, "logit_bias": {}, "suffix": None, "presence_penalty": 0, "user": "me"}
    assert post(app, COMPLETIONS, completion(**neutral, frequency_penalty=0.0)).status == 200
    assert post(app, CHAT, chat(tools=[], response_format={"type": "text"}, logprobs=False)).status == 200


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b"\xff", b'{"model": NaN}', b"[" * 10_000, b'{"seed": ' + b"9" * 5000 + b"}"],
    ids=["empty", "list", "cut", "not-utf8", "nan", "deep", "long-number"],
)  # fmt: skip
def test_a_body_that_is_not_an_object_is_refused(app, body):
    reply = post(app, COMPLETIONS, body)
    assert reply.status == 400 and reply.error["message"].startswith("the body must be")


def test_other_refusals_have_the_same_shape(app):
    unknown = post(app, COMPLETIONS, completion(model="gpt-4"))
    assert (unknown.status, unknown.error["code"], unknown.error["param"]) == (404, "model_not_found", "model")
    assert post(app, COMPLETIONS, {"prompt": "x"}).error["param"] == "model"
    assert get(app, "/v1/models/gpt-4").status == 404
    assert (get(app, "/v2").status, get(app, COMPLETIONS).status) == (404, 405)
    assert get(app, "/v2").error["type"] == get(app, COMPLETIONS).error["type"] == "invalid_request_error"
    too_long = post(app, COMPLETIONS, completion(user="x" * 20_000))
    assert too_long.status == 413 and "20,000 bytes" in too_long.error["message"]
    assert post(app, COMPLETIONS, b"", {"Content-Length": "20001"}).status == 413


def test_the_api_key_is_asked_for(service):
    app = dataclasses.replace(service, api_key="sécret").app()
    assert get(app, "/health").status == 200
    for headers in ({}, {"Authorization": "Bearer other"}, {"Authorization": "Bearer s\xe9cre"}):
        reply = get(app, "/v1/models", headers)
        assert (reply.status, reply.error["code"]) == (401, "invalid_api_key")
        assert post(app, COMPLETIONS, completion(), headers).status == 401
        assert get(app, "/metrics", headers).status == 401
    key = "Bearer " + "sécret".encode().decode("latin-1")
    assert get(app, "/v1/models", {"Authorization": key}).status == 200


def test_a_full_queue_is_a_503_with_retry_after(service):
    limits = dataclasses.replace(service.reader.limits, rows=1)
    stopped = Engine(Batch(None, None, limits), service.reader.vocabulary, 2, Metrics())  # pyright: ignore
    app = dataclasses.replace(service, engine=stopped).app()

    async def three() -> list:
        body = json.dumps(completion(n=2)).encode()
        waiting = asyncio.create_task(send(app, "POST", COMPLETIONS, body))
        while not stopped.metrics.waiting:
            await asyncio.sleep(0.01)
        return [await send(app, "POST", COMPLETIONS, body), waiting.cancel()]

    reply, _ = asyncio.run(three())
    assert (reply.status, reply.error["code"]) == (503, "queue_full") and int(reply.headers["retry-after"]) > 0


def test_a_failed_step_fails_its_requests_alone(service, app, monkeypatch, capfd):
    def fail(*_):
        raise RuntimeError("secret detail")

    with monkeypatch.context() as patch:
        patch.setattr(service.engine._batch, "step", fail)
        reply = post(app, COMPLETIONS, completion())
        streamed = post(app, COMPLETIONS, completion(stream=True))
    assert (reply.status, reply.error["type"]) == (500, "server_error")
    assert streamed.body.startswith(b'data: {"error":')
    assert b"secret" not in reply.body + streamed.body and b"Traceback" not in reply.body + streamed.body
    assert "secret detail" in capfd.readouterr().err
    assert post(app, COMPLETIONS, completion()).status == 200


def test_prompts_as_text_or_token_ids_give_the_same(app, service, greedy_texts):
    ids = [[*service.reader.vocabulary.encode(text), 1] for text in EXPRESSIONS[:2]]
    expected = [greedy_texts[text] for text in EXPRESSIONS[:2]]
    for prompt in (EXPRESSIONS[:2], ids):
        reply = post(app, COMPLETIONS, completion(prompt=prompt, max_tokens=64)).json
        assert [choice["text"] for choice in reply["choices"]] == expected
        assert reply["usage"]["prompt_tokens"] == sum(map(len, ids))
    assert post(app, COMPLETIONS, completion(prompt=ids[0])).json["choices"][0]["text"] == expected[0]


def test_max_tokens_and_stop_strings_cut(app, greedy_texts):
    full = greedy_texts[EXPRESSIONS[0]]
    [choice] = post(app, COMPLETIONS, completion(max_tokens=3)).json["choices"]
    assert choice["finish_reason"] == "length" and full.startswith(choice["text"]) and choice["text"] != full
    reply = post(app, COMPLETIONS, completion(stop=["Final", " is 4"], logprobs=0)).json
    [choice] = reply["choices"]
    assert (choice["finish_reason"], choice["text"]) == ("stop", full[: full.index(" is 4")])
    assert reply["usage"]["completion_tokens"] < 10
    assert choice["logprobs"]["text_offset"][-1] < len(choice["text"])


def test_log_probabilities_are_those_of_the_model(app):
    [one] = post(app, COMPLETIONS, completion(logprobs=5, temperature=2, seed=3)).json["choices"]
    found = one["logprobs"]
    assert "".join(found["tokens"]) == one["text"]
    for token, value, candidates in zip(found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True):
        assert len(candidates) == 5 and sum(map(math.exp, candidates.values())) <= 1 + 1e-5
        assert value <= max(candidates.values()) + 1e-5
        assert candidates.get(token, value) == pytest.approx(value, abs=1e-5)
    content = post(app, CHAT, chat(logprobs=True, top_logprobs=1)).json["choices"][0]["logprobs"]["content"]
    assert all(bytes(entry["bytes"]).decode() == entry["token"] for entry in content)
    assert all(entry["top_logprobs"][0]["token"] == entry["token"] for entry in content)  # greedy


def test_infinities_are_null():
    assert [finite(x) for x in (-math.inf, math.nan, -1.5)] == [None, None, -1.5]
    with pytest.raises(ValueError):
        encode({"logprob": -math.inf})


def test_answers_are_read_and_checked_where_asked_for(app):
    for ask in ({}, {"question": "[MAX 2 9 [MIN 4 7] 0]"}):
        [choice] = post(app, COMPLETIONS, completion(explainft=ask)).json["choices"]
        check = {"steps_total": 2, "steps_correct": 2, "first_wrong_step_number": None, "steps_unreadable": 0}
        assert choice["explainft"] == {"answer": "9", "correct": True, "check": check}
    other = {"question": "[MIN 1 2 ]"}
    choices = post(app, COMPLETIONS, completion(prompt=EXPRESSIONS[:2], explainft=[{}, other])).json["choices"]
    assert [choice["explainft"]["correct"] for choice in choices] == [True, False]
    assert "explainft" not in post(app, CHAT, chat()).json["choices"][0]


def test_metrics_are_prometheus_text(app):
    post(app, COMPLETIONS, completion())
    for _ in range(100):  # an answer is sent before the engine counts the rows that are left
        reply = get(app, "/metrics")
        samples = dict(line.rsplit(" ", 1) for line in reply.body.decode().splitlines() if not line.startswith("#"))
        if samples["explainft_outputs_running"] == "0":
            break
        time.sleep(0.05)
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert float(samples['explainft_requests_total{path="/v1/completions",status="200"}']) > 0
    assert float(samples["explainft_generated_tokens_total"]) > 0 and samples["explainft_outputs_running"] == "0"
    assert (
        samples['explainft_time_to_first_token_seconds_bucket{le="+Inf"}']
        == (samples["explainft_time_to_first_token_seconds_count"])
    )


def fuzz(service, count: int, seed: int) -> dict[int, int]:
    """Returns how many malformed requests had which status."""
    app, random_, statuses = service.app(), random.Random(seed), {}

    async def run() -> None:
        for _ in range(count):
            method, path, body, headers = malformed(random_, MODEL)
            reply = await send(app, method, path, body, headers)
            assert reply.status < 500 and b"Traceback" not in reply.body, (method, path, body, reply.body)
            if reply.status != 200 and method != "HEAD":
                assert {"message", "type", "param", "code"} == reply.error.keys()
            statuses[reply.status] = statuses.get(reply.status, 0) + 1

    asyncio.run(run())
    return statuses


def test_malformed_requests_are_no_500(service):
    assert fuzz(service, 500, seed=0)[400] > 200


@pytest.mark.slow
def test_20000_malformed_requests_are_no_500(service):
    print(fuzz(service, 20_000, seed=1))
