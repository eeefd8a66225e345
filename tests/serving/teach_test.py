"""A server of explainft as a teacher: `explainft teach` against `explainft serve`."""

import json

import pytest

from explainft import listops
from explainft.evaluation.infer import PRETRAINED
from tests.helpers.command import outcome
from tests.helpers.questions import write_jsonl
from tests.serving import requests


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_a_served_model_explains_as_in_process(address, tmp_path, capfd, monkeypatch, api):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    rows = [
        {"id": str(i), "question": text, "answer": listops.evaluate(listops.parse(text))}
        for i, text in enumerate(requests.EXPRESSIONS)
    ]
    file = write_jsonl(tmp_path / "expressions.jsonl", rows)
    words = ["teach", "--method", "cote", "--input", file, "--problem", "listops", "--exemplars", "none"]
    served, in_process = tmp_path / "served.jsonl", tmp_path / "in_process.jsonl"
    model = ["--model", requests.MODEL, "--base_url", address, "--api", api]
    code, out, err = outcome(capfd, *words, *model, "--max_tokens", 64, "--output", served)
    assert code == 0 and "cote: 8 asked" in out and ", 0 cut, 0 without a response" in out, err
    code, _, err = outcome(capfd, *words, "--teacher", PRETRAINED, "--max_tokens", 64, "--output", in_process)
    assert code == 0, err
    texts = [
        [json.loads(line)["explanation"] for line in path.read_text().splitlines()] for path in (served, in_process)
    ]
    assert texts[0] == texts[1] and len(texts[0]) >= 6  # the model is small
    assert all(json.loads(line)["request_id"] for line in served.read_text().splitlines())
