"""The reference pages have every command, macro and metric of the code."""

import importlib.util

import pytest

from explainft.cli import main
from tests.docs.pages import ROOT


@pytest.fixture(scope="module")
def reference():
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_command_has_a_section(reference):
    page = reference.cli_page()
    for command in main.COMMANDS:
        assert f"\n## explainft {command.__name__.rpartition('.')[2]}" in page
    assert "| `--gin_file` |" in page


def test_every_macro_has_type_and_default(reference):
    rows = [line for line in reference.macros_page().split("\n") if line.startswith("| `")]
    assert len(rows) == len(reference.MACROS)
    assert any(
        row.startswith("| `LEARNING_RATE` | peak learning rate | `float` | `required` | `3e-4` |") for row in rows
    )


def test_macro_without_meaning_is_an_error(reference, monkeypatch):
    monkeypatch.delitem(reference.MACROS, "BATCH_SIZE")
    with pytest.raises(KeyError, match="differ in BATCH_SIZE"):
        reference.macros_page()


def test_perfect_predictor_scores_one(reference):
    page = reference.metrics_page()
    assert "| `exact_match` | 1 |" in page and "| `valid` | 1 |" in page and "| `exact_match/depth/2` | 1 |" in page
