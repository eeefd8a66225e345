"""`explainft teach` on its command line: killed, interrupted, without a network, and with bad flags."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from explainft.evaluation.infer import PRETRAINED
from explainft.samples.files import read_samples
from tests.helpers.command import outcome
from tests.helpers.datasets import environment
from tests.helpers.questions import rows, write_jsonl
from tests.helpers.teacher_server import Reply, explain, question_of, serving

KEY = "sk-test-0123456789abcdef"
QUESTIONS = 60


@pytest.fixture
def questions(tmp_path):
    return write_jsonl(tmp_path / "questions.jsonl", rows(QUESTIONS))


def flags(questions, *more):
    output = questions.with_name("explained.jsonl")
    return ["teach", "--method", "cote", "--input", questions, "--exemplars", "csqa", "--output", output, *more]


def run_until(server, calls, words, number):
    """Starts a command, and sends it the signal when the server has received that many requests."""
    process = subprocess.Popen(
        [sys.executable, "-m", "explainft.cli.main", *map(str, words)],
        env=environment() | {"OPENAI_API_KEY": KEY}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while process.poll() is None and len(server.calls) < calls:
        time.sleep(0.002)
    if process.poll() is None:
        os.kill(process.pid, number)
    return *process.communicate(timeout=300), process.returncode


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_after_a_kill_only_requests_in_flight_are_sent_twice(questions, capfd, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    concurrency = 4
    with serving(lambda call: Reply(text=explain(call.prompt), delay=0.01 + 0.02 * (len(call.prompt) % 5))) as server:
        words = flags(questions, "--model", "stub", "--base_url", server.url, "--concurrency", concurrency)
        sent = []
        for calls in (15, 35):
            *_, code = run_until(server, calls, words, signal.SIGKILL)
            assert code == -signal.SIGKILL
            sent.append(len(server.calls))
        journal = questions.with_name("explained.jsonl.answers.jsonl")
        with open(journal, "ab") as file:
            file.write(b'{"key": "torn')
        kept = len(read_whole_lines(journal))
        assert kept >= sent[1] - 2 * concurrency - concurrency
        code, out, err = outcome(capfd, *words)
        assert code == 0 and f"cote: {QUESTIONS} asked; {QUESTIONS} accepted" in out, err
        counts = server.counts()
        assert len(counts) == QUESTIONS and sum(counts.values()) - QUESTIONS <= 2 * concurrency
        assert len(server.calls) - sent[1] == QUESTIONS - kept
    found = read(questions.with_name("explained.jsonl"))
    assert [row["question"] for row in found] == [row["question"] for row in rows(QUESTIONS)]
    assert all(row["explanation"].startswith(f"It says: {row['question']}") for row in found)


def read_whole_lines(path):
    return path.read_bytes().split(b"\n")[:-1]


def test_ctrl_c_keeps_all_that_came_and_says_so(questions):
    with serving(lambda call: Reply(text=explain(call.prompt), delay=0.05)) as server:
        words = flags(questions, "--model", "stub", "--base_url", server.url, "--concurrency", 3)
        out, err, code = run_until(server, 12, words, signal.SIGINT)
        assert code == 130 and "Traceback" not in err and KEY not in out + err
        kept = len(read_whole_lines(questions.with_name("explained.jsonl.answers.jsonl")))
        assert 9 <= kept <= len(server.calls)
        assert f"stopped: {kept} of {QUESTIONS} answers are in" in err and "rerun the same command to resume" in err
        assert not questions.with_name("explained.jsonl").exists()


def test_an_open_request_ends_with_code_1_and_no_key_in_any_message(questions, capfd, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def respond(call):
        bad = "-7 " in question_of(call.prompt)
        return Reply(status=500, body=f"not you, {KEY}") if bad else Reply(text=explain(call.prompt))

    with serving(respond) as server:
        words = flags(questions, "--model", "stub", "--base_url", server.url, "--max_retries", 0)
        code, out, err = outcome(capfd, *words)
        assert code == 1 and "59 accepted" in out and "1 without a response" in out and "1 HTTP 500" in out
        assert "1 requests had no usable response; rerun the command to send them" in err and KEY not in out + err
        assert "tokens: 5,900 of prompts, 1,180 of answers" in out
    with serving(lambda call: Reply(status=401, body=f'{{"error": {{"message": "{KEY} is wrong"}}}}')) as server:
        code, out, err = outcome(capfd, *flags(questions, "--model", "stub", "--base_url", server.url))
        assert code == 2 and len(err.splitlines()) == 1 and "HTTP 401" in err and KEY not in out + err
    assert not any(KEY.encode() in file.read_bytes() for file in questions.parent.iterdir())


def test_a_dry_run_sends_nothing(questions, capfd, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    words = flags(questions, "--model", "gpt-4o", "--dry_run", "--num_explanations", 2, "--temperature", 1)
    code, out, _ = outcome(capfd, *words)
    assert code == 0 and "cote: 120 explanations to ask for, 120 requests to send" in out
    assert "at most 30,720 of answers" in out and "price: at most $" in out
    assert sorted(file.name for file in questions.parent.iterdir()) == ["questions.jsonl"]


@pytest.fixture
def expressions(tmp_path):
    answers = {"[MIN 4 7 ]": "4", "[MAX 3 8 ]": "8", "[SUM 2 9 [MIN 4 7 ] 0 ]": "5"}
    rows = [{"id": f"e{i}", "question": text, "answer": answers[text]} for i, text in enumerate(answers)]
    return write_jsonl(tmp_path / "expressions.jsonl", rows)


def teach_with_checkpoint(capfd, expressions, *more, teacher=PRETRAINED):
    output = expressions.with_name("explained.jsonl")
    words = ["--method", "cote", "--input", expressions, "--problem", "listops", "--exemplars", "none"]
    code, out, err = outcome(capfd, "teach", *words, "--output", output, "--teacher", teacher, "--batch_size", 4, *more)
    assert code == 0, err
    return out, read(output), [row["text"] for row in read(output.with_name("explained.jsonl.answers.jsonl"))]


def test_a_checkpoint_writes_what_sample_writes(expressions, capfd):
    sampling = ["--temperature", 2, "--seed", 3]
    out, found, texts = teach_with_checkpoint(
        capfd, expressions, *sampling, "--num_explanations", 2, "--max_tokens", 61
    )
    assert "cote: 6 asked" in out and "steps: all correct in" in out
    samples = expressions.with_name("samples.jsonl")
    for number in (1, 2):
        words = ["--input", expressions, "--num_samples", number, "--output", samples, "--batch_size", 4 * number]
        assert outcome(capfd, "sample", PRETRAINED, *words, *sampling)[0] == 0
    problems = read_samples(samples)
    written = [problem.samples[i] for i in range(2) for problem in problems]
    assert f" of prompts, {sum(sample.tokens for sample in written)} of answers" in out
    assert texts == [None if sample.cut else sample.text for sample in written] and len(set(texts)) > 4
    kept = {row["id"]: row["explanation"] for row in found}
    for problem in problems:
        for i, sample in enumerate(problem.samples):
            assert (f"{problem.id}/{i}" in kept) == (sample.correct and not sample.cut)
            assert (
                f"{problem.id}/{i}" not in kept
                or kept[f"{problem.id}/{i}"] == sample.text.rpartition("\nFinal answer")[0]
            )


def test_a_checkpoint_decodes_greedily_and_cuts(expressions, tmp_path, capfd):
    out, found, texts = teach_with_checkpoint(capfd, expressions, "--max_tokens", 16)
    assert "2 accepted" in out and "1 cut" in out and "1 finish reason length" in out
    assert [row["explanation"] for row in found] == [
        "Min, smallest number of [4, 7] is 4",
        "Max, largest number of [3, 8] is 8",
    ]
    assert texts.count(None) == 1
    hugging_face = tmp_path / "hf"
    assert outcome(capfd, "convert", PRETRAINED, hugging_face, "--to", "hf")[0] == 0
    _, _, again = teach_with_checkpoint(capfd, expressions, "--max_tokens", 16, teacher=hugging_face)
    assert again == [*texts, *texts]  # another model: all are asked


def test_questions_of_a_dataset_of_listops(tiny_data_dir, tmp_path, capfd):
    words = ["--dataset", "tiny", "--split", "test", "--num_examples", 4, "--tfds_data_dir", tiny_data_dir]
    more = ["--exemplars", "listops", "--model", "m", "--output", tmp_path / "o.jsonl", "--dry_run"]
    code, out, err = outcome(capfd, "teach", "--method", "crop", *words, *more)
    assert code == 0 and "rp: at most 4 explanations to ask for" in out and "price: unknown" in out, err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ([], "no teacher; give --model, --teacher or --replay"),
        (["--model", "m"], "no API key; set the environment variable OPENAI_API_KEY"),
        (["--model", "m", "--base_url", "localhost:8000"], "--base_url=localhost:8000 must begin with http://"),
        (["--model", "m", "--teacher", "r"], "--model and --teacher exclude each other"),
        (["--model", "m", "--dataset", "d"], "give the questions with --dataset or with --input"),
        (["--model", "m", "--method", "rp", "--unfiltered"], "--unfiltered keeps the answers of cote"),
        (["--model", "m", "--split", "test"], "--split belongs to --dataset"),
        (["--model", "m", "--problem", "math"], "are of the problem choice, and the questions of math"),
        (["--model", "m", "--temperature", -1], "temperature=-1.0 must be"),
        (["--model", "m", "--top_p", 0], "top_p=0.0 must be above 0"),
        (["--model", "m", "--num_explanations", 2], "--num_explanations=2 at temperature 0 asks for the same text"),
        (["--model", "m", "--timeout", "nan"], "--timeout=nan must be"),
        (["--model", "m", "--max_retries", -1], "--max_retries=-1 must be"),
        (["--model", "m", "--prices", "none.toml"], "cannot read --prices=none.toml"),
        (["--replay", "."], "--replay=. has no chunks of outputs"),
        (["--replay", ".", "--model", "m"], "--replay gives all that --method cote asks"),
        (["--replay", ".", "--num_explanations", 2], "--replay has one output a question"),
        (["--teacher", "none"], "none"),
    ],
)
def test_bad_flags_take_one_line(questions, capfd, monkeypatch, more, words):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    if more[:1] == ["--model"] and "--base_url" not in more and len(more) > 2:
        more = [*more, "--base_url", "http://127.0.0.1:9/v1"]
    monkeypatch.chdir(questions.parent)
    code, _, err = outcome(capfd, *flags(questions, *more))
    assert code == 2 and len(err.splitlines()) == 1 and words in err
    assert [file.name for file in questions.parent.iterdir()] == ["questions.jsonl"]


def test_other_files_are_not_replaced(questions, capfd):
    more = ["--model", "m", "--base_url", "http://127.0.0.1:9/v1"]
    before = questions.read_bytes()
    words = flags(questions, *more)
    words[words.index("--output") + 1] = questions
    code, _, err = outcome(capfd, *words)
    assert code == 2 and "exists and is not of `explainft teach`" in err and questions.read_bytes() == before
    questions.with_name("explained.jsonl.answers.jsonl").write_text('{"a": 1}\n')
    code, _, err = outcome(capfd, *flags(questions, *more))
    assert code == 2 and "line 1 is corrupt" in err
