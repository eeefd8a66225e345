"""Properties of the import, for rows of any content."""

import json
import shutil
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from explainft.data.questions.examples import question_of
from explainft.data.questions.importing import Import, import_questions
from explainft.data.questions.layouts import LAYOUTS, Unreadable
from explainft.data.questions.records import read
from explainft.problems.registry import PROBLEMS, get_problem

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=8), values, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(
    ["question", "answer", "choices", "explanation", "id", "stem", "answerKey", "facts", "solution"]
)
rows = st.dictionaries(names | st.text(max_size=5), json_values, max_size=6) | json_values
questions = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=30).filter(str.strip)


@given(rows, st.sampled_from(sorted(LAYOUTS)), st.sampled_from(sorted(PROBLEMS)), st.booleans())
def test_any_row_is_a_question_or_says_why_not(row, layout, problem, answered):
    try:
        found = question_of(get_problem(problem), layout, row, "id", answered=answered)
    except Unreadable as error:
        assert str(error) and "\n" not in str(error)
    else:
        assert found.question.strip() and (found.answer or not answered)
        json.loads(found.fields)


@settings(max_examples=20)
@given(st.lists(st.tuples(questions, questions, questions), min_size=1, max_size=5, unique_by=lambda row: row[0]))
def test_records_hold_what_was_imported(triples):
    directory = Path(tempfile.mkdtemp())
    try:
        file = directory / "train.jsonl"
        given_rows = [{"question": q, "answer": a, "explanation": e} for q, a, e in triples]
        file.write_text("".join(json.dumps(row) + "\n" for row in given_rows))
        dataset, report = import_questions(Import("quiz", "text", {"train": file}), directory)
        found = list(read(dataset, "train"))
        refused = sum(n for (kind, _), n in report.counts.items() if kind == "refused")
        assert len(found) + refused == len(triples)
        kept = {(row["question"], row["answer"].strip(), row["explanation"]) for row in given_rows}
        assert {(one.question, one.answer, one.explanation) for one in found} <= kept
    finally:
        shutil.rmtree(directory)
