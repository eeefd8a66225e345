"""Another server as a teacher: `explainft teach` against `transformers serve` of a tiny causal model."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.helpers.command import outcome
from tests.helpers.questions import rows, write_jsonl

pytestmark = pytest.mark.hf

TEMPLATE = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A random Llama with a tokenizer of bytes."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {text: i for i, text in enumerate(["<end>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>")
    fast.chat_template = TEMPLATE
    config = transformers.LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        eos_token_id=0, pad_token_id=0, bos_token_id=0,
    )  # fmt: skip
    directory = tmp_path_factory.mktemp("llama")
    transformers.LlamaForCausalLM(config).save_pretrained(directory)
    fast.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def base_url(model):
    pytest.importorskip("fastapi")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [Path(sys.executable).with_name("transformers"), "serve", str(model), "--port", str(port)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen([*command, "--device", "cpu"], env=environment) as server:
        deadline = time.monotonic() + 180
        while not healthy(port):
            assert server.poll() is None and time.monotonic() < deadline, "transformers serve did not start"
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
        server.terminate()


def healthy(port):
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
        return answer.status == 200
    return False


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_transformers_serve_answers_every_request(model, base_url, tmp_path, capfd, monkeypatch, api):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    file, output = write_jsonl(tmp_path / "q.jsonl", rows(6)), tmp_path / "explained.jsonl"
    words = [
        "teach",
        "--method",
        "cote",
        "--input",
        file,
        "--exemplars",
        "csqa",
        "--model",
        model,
        "--base_url",
        base_url,
    ]
    words += ["--api", api, "--max_tokens", 12, "--unfiltered", "--output", output]
    code, out, err = outcome(capfd, *words)
    assert code == 0 and "cote: 6 asked" in out and "0 without a response" in out, out + err
    answers = [json.loads(line) for line in (tmp_path / "explained.jsonl.answers.jsonl").read_text().splitlines()]
    assert len(answers) == 6
    code, _, err = outcome(capfd, *words)  # nothing is left to send
    assert code == 0, err
    assert len((tmp_path / "explained.jsonl.answers.jsonl").read_text().splitlines()) == 6
