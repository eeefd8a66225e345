"""Commands on expressions alone: explain, check, solve, data show."""

import io

import pytest

from explainft import listops
from tests.helpers.command import outcome
from tests.helpers.run_directories import shipped

NESTED = "[MAX 2 9 [MIN 4 7 ] 0 ]"
MEDIUM = "Min, smallest number of [4, 7] is 4\nMax, largest number of [2, 9, 4, 0] is 9\nFinal answer: 9"


def test_explain(capfd):
    assert outcome(capfd, "explain", NESTED) == (0, MEDIUM + "\n", "")
    assert outcome(capfd, "explain", "--style=none", NESTED, "[SUM 9 9 ]") == (0, "9\n8\n", "")
    assert outcome(capfd, "explain", "--style=short", "--modulus=7", "[SUM 9 9 ]")[1] == "SUM, 4\nFinal answer: 4\n"


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_standard_input_may_start_with_a_byte_order_mark(capfd, monkeypatch, mark):
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{mark}[SUM 9 9 ]\r\n\n{NESTED}\n"))
    assert outcome(capfd, "explain", "--style=none") == (0, "8\n9\n", "")
    monkeypatch.setattr("sys.stdin", io.StringIO(mark + MEDIUM))
    assert outcome(capfd, "check", NESTED)[0] == 0


def test_standard_input_must_be_utf_8(capfd, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"[MAX 1 \xff ]"), encoding="utf-8"))
    line = "explainft: error: standard input must be UTF-8 text; byte 7 is not\n"
    assert outcome(capfd, "explain") == (2, "", line)


@pytest.mark.parametrize("command", ["solve", "explain"])
def test_no_expressions(capfd, monkeypatch, command):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    code, out, err = outcome(capfd, command)
    assert (code, out, err.count("\n")) == (2, "", 1) and "no expressions" in err


def test_check_of_a_correct_explanation(capfd):
    out = "final answer: 9 (correct)\nsteps: 2 of 2 correct\n"
    assert outcome(capfd, "check", NESTED, "--text", MEDIUM) == (0, out, "")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            MEDIUM.replace("[2, 9", "[3, 9"),
            [
                "final answer: 9 (correct)",
                "steps: 1 of 2 correct",
                "first wrong step: 2",
                "  expected: Max, largest number of [2, 9, 4, 0] is 9",
                "  found: Max, largest number of [3, 9, 4, 0] is 9",
            ],
        ),
        (MEDIUM[:-1] + "8", ["final answer: 8 (wrong, expected 9)", "steps: 2 of 2 correct"]),
        (
            MEDIUM.split("\n")[0],
            [
                "final answer: none found (wrong, expected 9)",
                "steps: 1 of 2 correct",
                "first wrong step: 2",
                "  expected: Max, largest number of [2, 9, 4, 0] is 9",
                "  found: no step",
            ],
        ),
        (
            MEDIUM.replace("\nFinal", "\nMax, 9\nFinal"),
            [
                "final answer: 9 (correct)",
                "steps: 2 of 2 correct",
                "first wrong step: 3",
                "  expected: no further step",
                "  found: Max, 9",
            ],
        ),
    ],
)
def test_check_shows_what_is_wrong(capfd, text, lines):
    assert outcome(capfd, "check", NESTED, "--text", text) == (1, "\n".join(lines) + "\n", "")


def test_data_show(capfd, tiny_data_dir):
    code, out, _ = outcome(capfd, "data", "show", "-n", 2, "--split=longer", "--tfds_data_dir", tiny_data_dir)
    assert code == 0
    assert out.count("Final answer: ") == 2 * 3 and "├─" in out and "--- tiny/longer 1:" in out


def test_solve_checks_its_own_answer(capfd):
    code, out, err = outcome(capfd, "solve", NESTED)
    assert (code, err) == (0, "")
    expression, *lines, verdict = out.splitlines()
    check = listops.check("\n".join(line.removeprefix("  ") for line in lines), listops.parse(NESTED), "medium")
    assert expression == NESTED
    assert verdict.startswith(f"answer: {check.final_answer} ({'correct' if check.answer_correct else 'wrong'}")
    assert f"{check.steps_correct} of {check.steps_total} steps correct" in verdict


def test_solve_refuses_values_outside_training(capfd):
    code, out, err = outcome(capfd, "solve", "[MAX 2 10 ]")
    assert (code, out) == (2, "")
    assert err == (
        "explainft: error: 10 in '[MAX 2 10 ]' is outside 0 to 9, "
        "the values of config 'tiny' that the model was trained on\n"
    )


def test_solve_asks_another_model(capfd, tmp_path):
    solved = outcome(capfd, "solve", NESTED)
    assert solved[0] == 0 and outcome(capfd, "solve", f"--model={shipped(tmp_path / 'model')}", NESTED) == solved
    code, out, err = outcome(capfd, "solve", "--model=missing", NESTED)
    assert (code, out) == (2, "") and "no run at 'missing'" in err
