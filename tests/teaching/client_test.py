"""A teacher behind a server: every fault is counted and retried, and no answer ends up under another question."""

import dataclasses
import datetime
import email.utils
import json
import random
import time
from collections import Counter

import pytest

from explainft.core.errors import UserError
from explainft.teaching.client import Connection, OpenAITeacher, RetryBudget
from explainft.teaching.exemplars import read_prompts
from explainft.teaching.journal import AnswerJournal, AuditLog
from explainft.teaching.questions import read_file
from explainft.teaching.requests import Settings
from explainft.teaching.teach import METHODS, Stage, Teaching, teach
from tests.helpers.questions import rows, write_jsonl
from tests.helpers.teacher_server import Reply, completion, explain, gold, question_of, serving

KEY = "sk-test-0123456789abcdef"
QUICK = RetryBudget(max_retries=5, first_wait=0.01)

# What may come in place of an answer, and the kind that it is counted under.
FAULTS = [
    ("HTTP 429", Reply(status=429, body='{"error": {"message": "slow down"}}', headers={"Retry-After": "0"})),
    ("HTTP 429", Reply(status=429, headers={"Retry-After": "Mon, 01 Jan 2024 00:00:00 GMT"})),
    ("HTTP 500", Reply(status=500, body="oops")),
    ("HTTP 503", Reply(status=503, body="<html>busy</html>", headers={"Content-Type": "text/html"})),
    ("timeout", Reply(text="late", delay=9.0)),
    ("connection", Reply(text="the connection closes before the end", cut_at=20)),
    ("empty choices", Reply(body='{"id": "x", "choices": []}')),
    ("empty choices", Reply(body='{"id": "x", "choices": null}')),
    ("blank content", Reply(body='{"choices": [{"message": {"content": null}, "finish_reason": "stop"}]}')),
    ("blank content", Reply(text=" \n ")),
    ("blank content", Reply(text="\n\nQ: an invented question")),
    ("HTML page", Reply(body="<!doctype html><p>Log in", headers={"Content-Type": "text/html"})),
    ("JSON cut off", Reply(body=completion(Reply(text="It says: nothing"))[:60])),
    ("malformed response", Reply(body='["not", "an", "object"]')),
    ("malformed response", Reply(body='{"choices": [{"message": {"content": ["a"]}, "finish_reason": "stop"}]}')),
    ("finish reason content_filter", Reply(text="half of", finish_reason="content_filter")),
]  # fmt: skip


def run_of(tmp_path, server, number_of_questions=8, method="cote", explanations=1, budget=QUICK, **changes):
    """Returns a run over made-up questions, and its teacher."""
    file = write_jsonl(tmp_path / "questions.jsonl", rows(number_of_questions))
    settings = {"max_tokens": 64, "temperature": 0.0 if explanations == 1 else 0.7, "api": "chat"}
    settings |= {name: changes.pop(name) for name in list(changes) if name in (*settings, "seed")}
    connection = Connection(KEY, server.url, **{"timeout": 60.0, "concurrency": 8, **changes})
    output = tmp_path / "explained.jsonl"
    teacher = OpenAITeacher(connection, budget, AuditLog(output, connection.redact))
    stages = [Stage(stage, Settings("stub", **settings), teacher) for stage in METHODS[method]]
    questions, prompts = read_file(file, "jsonl", "choice"), read_prompts("csqa")
    return Teaching(questions, prompts, stages, explanations, output, AnswerJournal(output))


def written(run) -> list[dict]:
    return [json.loads(line) for line in run.output.read_text().splitlines()]


def assert_under_their_questions(found):
    for row in found:
        assert row["explanation"].startswith(f"It says: {row['question']}")
        assert "answer is" not in row["explanation"]


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_every_fault_is_counted_and_asked_again(tmp_path, api):
    def respond(call):
        number = int(question_of(call.prompt).split("-")[1].split()[0])
        return FAULTS[number][1] if call.attempt == 1 else Reply(text=explain(call.prompt))

    with serving(respond) as server:
        run = run_of(tmp_path, server, len(FAULTS), api=api, concurrency=16, timeout=3.0)
        account = teach(run)
    assert account.faults == Counter(kind for kind, _ in FAULTS)
    assert account.outcomes["cote"] == {"accepted": len(FAULTS)}
    assert sorted(server.counts().values()) == [2] * len(FAULTS)
    assert_under_their_questions(written(run))
    events = [json.loads(line) for line in (tmp_path / "explained.jsonl.requests.jsonl").read_text().splitlines()]
    outcomes = Counter(event["outcome"] for event in events if event["event"] == "response")
    assert outcomes == account.faults + Counter({"stop": len(FAULTS)})
    assert sum(event["event"] == "request" for event in events) == len(server.calls)


def test_answers_out_of_order_stay_with_their_questions(tmp_path):
    rng = random.Random(3)
    delays = {}

    def respond(call):
        key = (call.prompt, call.body["seed"])
        delay = delays.setdefault(key, rng.choice([0, 0.01, 0.02, 0.1, 0.3]))
        if rng.random() < 0.2 and call.attempt == 1:
            return Reply(status=500, delay=delay)
        return Reply(text=explain(call.prompt), delay=delay)

    with serving(respond) as server:
        run = run_of(tmp_path, server, 60, explanations=3, seed=5, concurrency=16)
        account = teach(run)
    found = written(run)
    assert account.accepted.total() == len(found) == 180
    assert_under_their_questions(found)
    ids = [question.id for question in run.questions.questions]
    assert [row["id"] for row in found] == [f"{name}/{i}" for name in ids for i in range(3)]
    assert {call.body["seed"] for call in server.calls} == {5, 6, 7}
    assert server.most_active <= 16


def test_a_cut_answer_is_no_explanation_and_only_it_is_asked_again(tmp_path):
    def respond(call):
        cut = (
            " 1-" not in question_of(call.prompt) and "-3 " in question_of(call.prompt) and call.body["max_tokens"] < 99
        )
        return Reply(text=explain(call.prompt), finish_reason="length" if cut else "stop")

    with serving(respond) as server:
        run = run_of(tmp_path, server, 8)
        account = teach(run)
        assert account.outcomes["cote"] == {"accepted": 7, "cut": 1}
        assert account.faults == {"finish reason length": 1} and len(written(run)) == 7
        teach(run)
        assert len(server.calls) == 8  # the same limit cuts again
        account = teach(run_of(tmp_path, server, 8, max_tokens=128))
        assert len(server.calls) == 9 and account.outcomes["cote"] == {"accepted": 8}
        teach(run_of(tmp_path, server, 8, max_tokens=64))
        assert len(server.calls) == 9


def test_what_runs_on_into_another_question_is_complete(tmp_path):
    def respond(call):
        text = explain(call.prompt) + "\n\nQ: What is next?\nA: So the answer is (a) nothing."
        return Reply(text=text, finish_reason="length")

    with serving(respond) as server:
        run = run_of(tmp_path, server, 4)
        assert teach(run).outcomes["cote"] == {"accepted": 4}
    assert_under_their_questions(written(run))


def test_a_rerun_sends_nothing_and_another_template_all(tmp_path):
    with serving(lambda call: Reply(text=explain(call.prompt))) as server:
        run = run_of(tmp_path, server, 6)
        teach(run)
        first = run.output.read_bytes()
        teach(run)
        assert len(server.calls) == 6 and run.output.read_bytes() == first
        template = dataclasses.replace(run.prompts.templates["cote"], instruction="Think.")
        prompts = dataclasses.replace(run.prompts, templates={"cote": template})
        teach(dataclasses.replace(run, prompts=prompts))
        assert len(server.calls) == 12
        settings = dataclasses.replace(run.stages[0].settings, temperature=0.5)
        teach(dataclasses.replace(run, stages=[dataclasses.replace(run.stages[0], settings=settings)]))
        assert len(server.calls) == 18


def test_crop_asks_rp_for_exactly_what_cote_rejected(tmp_path):
    def respond(call):
        if "The correct answer is" in call.prompt.rpartition("Q:")[2]:
            return Reply(
                text=f"The correct answer is {gold(call.prompt)}. It says: {question_of(call.prompt)} So it is."
            )
        wrong = "-2 " in question_of(call.prompt) or "-5 " in question_of(call.prompt)
        return Reply(text=explain(call.prompt, "none of these" if wrong else None))

    with serving(respond) as server:
        run = run_of(tmp_path, server, 8, "crop")
        account = teach(run)
    hinted = [question_of(call.prompt) for call in server.calls if "Explanation:" in call.prompt]
    rejected = [row["question"] for i, row in enumerate(rows(8)) if i in (2, 5)]
    assert sorted(hinted) == sorted(rejected)
    assert account.outcomes["cote"] == {"accepted": 6, "without an answer": 2}
    found = written(run)
    assert [row["source"] for row in found] == ["cote", "cote", "rp", "cote", "cote", "rp", "cote", "cote"]
    assert_under_their_questions(found)
    assert all("correct answer" not in row["explanation"] for row in found)


def test_crop_does_not_fall_back_from_a_request_that_failed(tmp_path):
    with serving(lambda call: Reply(status=500)) as server:
        run = run_of(tmp_path, server, 3, "crop", budget=RetryBudget(0))
        account = teach(run)
    assert account.failed == 3 and len(server.calls) == 3 and not account.outcomes.get("rp")


def test_unfiltered_keeps_other_answers_as_they_are(tmp_path):
    with serving(lambda call: Reply(text="It flies. So the answer is (a).")) as server:
        run = dataclasses.replace(run_of(tmp_path, server, 12), unfiltered=True)
        account = teach(run)
    found = written(run)
    assert len(found) == 12 and 0 < account.accepted.total() < 12
    for row, gold_row in zip(found, rows(12), strict=True):
        assert row["answer"] == gold_row["choices"][0] and row["explanation"] == "It flies."
        assert row["source"] == ("cote" if row["answer"] == gold_row["answer"] else "unfiltered")


def test_equal_questions_are_asked_once(tmp_path):
    with serving(lambda call: Reply(text=explain(call.prompt))) as server:
        run = run_of(tmp_path, server, 1)
        first = run.questions.questions[0]
        twins = [first._replace(id=name) for name in "abc"]
        run = dataclasses.replace(run, questions=dataclasses.replace(run.questions, questions=twins))
        assert teach(run).accepted.total() == 3
    assert len(server.calls) == 1 and [row["id"] for row in written(run)] == ["a", "b", "c"]


def test_the_retry_budget_is_one_for_all_faults(tmp_path):
    kinds = [fault for _, fault in FAULTS if not fault.delay]
    with serving(lambda call: kinds[call.attempt % len(kinds)]) as server:
        run = run_of(tmp_path, server, 1, budget=RetryBudget(3, 0.01))
        account = teach(run)
        assert len(server.calls) == account.faults.total() == 4
        assert account.failed == 1 and written(run) == []
        teach(run)
        assert len(server.calls) == 8  # an open request is sent again


def test_a_date_and_seconds_to_wait_hold_all_requests_back(tmp_path):
    for name, header in (("seconds", lambda: "1"), ("date", lambda: email.utils.format_datetime(
            datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=2), usegmt=True))):  # fmt: skip
        directory = tmp_path / name
        directory.mkdir()
        first = []

        def respond(call, header=header, first=first):
            if not first:
                first.append(call.time)
                return Reply(status=429, headers={"Retry-After": header()})
            return Reply(text=explain(call.prompt))

        with serving(respond) as server:
            run = run_of(directory, server, 6, concurrency=1)
            assert teach(run).faults == {"HTTP 429": 1}
        waits = [call.time - server.calls[0].time for call in server.calls[1:]]
        assert min(waits) >= 0.99 and max(waits) < 5


@pytest.mark.parametrize(
    ("reply", "words", "sent"),
    [
        (Reply(status=401, body=f'{{"error": {{"message": "bad key {KEY}"}}}}'), "HTTP 401 (bad key [API key])", 1),
        (Reply(status=404, body="no such model"), "HTTP 404 (no such model)", 1),
        (Reply(status=429, headers={"Retry-After": "86400"}), "wait for 24.0 hours", 1),
        (Reply(status=400, body='{"error": {"message": "max_tokens is unknown"}}'), "20 requests in a row", 20),
    ],
)
def test_a_server_that_refuses_all_ends_the_run(tmp_path, reply, words, sent):
    with serving(lambda call: reply) as server:
        run = run_of(tmp_path, server, 30, concurrency=1)
        with pytest.raises(UserError) as error:
            teach(run)
    assert words in error.value.line and len(server.calls) == sent and KEY not in error.value.line


def test_requests_and_tokens_of_a_minute_are_limited(tmp_path):
    """`limits_test` has the exact times; here the least that twelve requests take."""
    with serving(lambda call: Reply(text=explain(call.prompt))) as server:  # it counts 120 tokens a request
        for name, limit in (("requests", {"requests_per_minute": 5}), ("tokens", {"tokens_per_minute": 900})):
            directory = tmp_path / name
            directory.mkdir()
            started = time.monotonic()
            assert teach(run_of(directory, server, 12, window=0.4, concurrency=2, **limit)).accepted.total() == 12
            assert time.monotonic() - started >= 0.4 * (2 if name == "requests" else 1)
        with pytest.raises(UserError, match="tokens_per_minute=9 must be at least"):
            teach(run_of(directory, server, 12, tokens_per_minute=9, temperature=0.1))


def test_the_key_is_in_no_file(tmp_path):
    def respond(call):
        if call.attempt == 1:
            return Reply(status=500, body=f'{{"error": "you sent {KEY}"}}')
        return Reply(text=f"My key is {KEY}. {explain(call.prompt)}")

    with serving(respond) as server:
        run = run_of(tmp_path, server, 4)
        assert teach(run).accepted.total() == 4
    assert all(call.headers["authorization"] == f"Bearer {KEY}" for call in server.calls)
    files = list(tmp_path.iterdir())
    assert len(files) == 4 and not any(KEY.encode() in file.read_bytes() for file in files)


def test_openai_itself_is_sent_its_own_name_of_the_limit(tmp_path, monkeypatch):
    with serving(lambda call: Reply(text=explain(call.prompt))) as server:
        run = run_of(tmp_path, server, 1)
        teach(run)
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)  # the client's own default, in the place of OpenAI's address
        teacher = OpenAITeacher(Connection(KEY), QUICK, AuditLog(run.output, str))
        [stage] = run.stages
        again = Stage(stage.method, dataclasses.replace(stage.settings, temperature=0.5), teacher)
        account = teach(dataclasses.replace(run, stages=[again]))
        assert account.accepted.total() == 1, account.faults
    fields = [{"max_tokens", "max_completion_tokens"} & call.body.keys() for call in server.calls]
    assert fields == [{"max_tokens"}, {"max_completion_tokens"}]
