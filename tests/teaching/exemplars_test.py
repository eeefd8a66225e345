"""The packaged exemplars are correct, prompts show the gold answer in RP alone, and bad files take one line."""

import pytest

from explainft import listops
from explainft.core.errors import UserError
from explainft.data.questions.examples import Question
from explainft.problems.registry import get_problem
from explainft.teaching.exemplars import METHODS, SETS, Exemplar, read_prompts
from explainft.teaching.outputs import explanation_of, without_hint

GOOD = """
problem = "choice"
[cote]
question = "Q: {question}\\n{choices}\\nA:"
answer = " {explanation} So it is {answer}."
[rp]
hint = "It is {answer}."
question = "{question} {hint} Why?"
answer = " {explanation}"
"""


def example(one: Exemplar) -> dict:
    return Question("x", one.question, tuple(one.choices), one.answer, "", "{}").example()


def test_there_is_a_set_for_each_dataset():
    assert SETS == ("csqa", "gsm8k", "listops", "obqa", "strategyqa")


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("method", METHODS)
def test_each_exemplar_states_its_gold_answer_and_explains_it(name, method):
    prompts = read_prompts(name)
    problem, template = get_problem(str(prompts.problem)), prompts.templates[method]
    assert 5 <= len(prompts.exemplars) <= 7
    assert len({one.question for one in prompts.exemplars}) == len(prompts.exemplars)
    for one in prompts.exemplars:
        output = template.fill_answer(one).strip()
        assert explanation_of(output, template.statement) == one.explanation
        if method == "rp":
            assert without_hint(one.explanation, template.hint_words) == one.explanation
        else:
            answer = problem.read_answer(output, example(one))
            assert answer is not None and problem.equal(answer, one.answer, example(one))
        if name == "listops":
            assert one.explanation == listops.explain(listops.parse(one.question), "medium").rpartition("\n")[0]
            assert int(one.answer) == listops.evaluate(listops.parse(one.question))
        if name == "gsm8k":
            check = problem.check(one.explanation, example(one))
            assert check is not None and check.valid and one.explanation.rpartition("<<")[2].count(f"={one.answer}>>")


@pytest.mark.parametrize("name", SETS)
def test_only_rp_shows_the_answer_of_its_question(name):
    prompts = read_prompts(name)
    one = Exemplar("Which {answer} is [MAX 1 2 ]?", "zebra", choices=("heron", "zebra"))
    asked = {method: prompts.prompt(method, one).rpartition("Which {answer}")[2] for method in METHODS}
    hint = prompts.templates["rp"].fill_hint(one)
    assert hint in asked["rp"] and "(b) zebra." in hint
    assert hint not in asked["cote"] and asked["cote"].count("zebra") <= 1  # among the choices


def test_a_question_without_choices_has_no_line_for_them(tmp_path):
    file = tmp_path / "own.toml"
    file.write_text(GOOD)
    prompts = read_prompts(str(file))
    assert prompts.prompt("cote", Exemplar("Is it?", "yes")) == "Q: Is it?\nA:"
    assert read_prompts("none").prompt("cote", Exemplar("Is it?", "a", choices=("a", "b"))) == "Is it?\n(a) a\n(b) b"
    assert read_prompts("none").prompt("cote", Exemplar("Is it?", "a")) == "Is it?"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('problem = "choice"', ""), "problem=None must name a problem"),
        (('"choice"', '"chess"'), "unknown problem 'chess'"),
        (("[rp]", "[rpp]"), "the file has the unknown field 'rpp'; did you mean 'rp'?"),
        (("{question}\\n{choices}", "{question} {answer}"), "[cote] question has {answer}; it may have"),
        (("{question}\\n{choices}", "{hint}"), "[cote] question has {hint}"),
        (("So it is {answer}.", "So it is."), "answer must have {explanation}, then words, then {answer}"),
        (("{question} {hint} Why?", "{question} Why?"), "[rp] question must have {hint}"),
        (("It is {answer}.", "It is."), "[rp] hint must have {answer}"),
        (("It is {answer}.", "{answer}"), "hint='{answer}' must have words beside {answer}"),
        (('problem = "choice"', "problem ="), "is not TOML"),
        (('problem = "choice"', 'problem = "choice"\nstop = "Q"'), "stop='Q' must be a list"),
        (
            ("", '\n[[exemplars]]\nquestion = "q"\nanswer = "a"'),
            "exemplar 1 must have question, answer and explanation",
        ),
        (
            ("", '\n[[exemplars]]\nquestion = "q"\nanswer = "a"\nexplanation = "e"\nchoices = ["b"]'),
            "exemplar 1 has the answer 'a', which must be one of its choices",
        ),
    ],
)
def test_a_bad_file_takes_one_line(tmp_path, change, words):
    file = tmp_path / "own.toml"
    old, new = change
    file.write_text(GOOD.replace(old, new) if old else GOOD + new)
    with pytest.raises(UserError) as error:
        read_prompts(str(file))
    assert words in error.value.line and "\n" not in error.value.line


def test_a_missing_file_names_the_packaged_sets():
    with pytest.raises(UserError, match="cannot read --exemplars=cqsa .*csqa, gsm8k"):
        read_prompts("cqsa")
