"""Sampling into a file: samples depend on seed, id and index alone, and a run that was stopped loses nothing."""

import dataclasses
import json
import random

import pytest

from explainft.checkpoints import convert
from explainft.core.errors import UserError
from explainft.evaluation.infer import PRETRAINED
from explainft.generation.quantization import DecodeConfig
from explainft.generation.sampling import SamplingConfig
from explainft.samples import sampling
from explainft.samples.files import read_samples
from explainft.samples.inputs import QuestionInputs
from explainft.samples.journal import Journal, locked
from explainft.samples.sampling import SampleRun

EXPRESSIONS = tuple(f"[{name} {i} 3 [MIN 4 {i} 1 ] 2 ]" for name in ("MAX", "SUM", "MED") for i in range(4))
HOT = SamplingConfig(temperature=2.0, seed=3)  # the shipped model is sure of these


@pytest.fixture(scope="module")
def weights():
    return convert.open_weights(str(PRETRAINED))


@pytest.fixture(scope="module")
def sample(weights):
    def sample(output, num_samples=4, questions=EXPRESSIONS, stop=lambda: False, **changes) -> bool:
        run = SampleRun(output, num_samples, HOT, DecodeConfig(), batch_size=8)
        return sampling.sample(weights, QuestionInputs(questions), dataclasses.replace(run, **changes), stop)

    return sample


@pytest.fixture(scope="module")
def whole(sample, tmp_path_factory):
    """The file of an uninterrupted run: six batches of two problems."""
    output = tmp_path_factory.mktemp("whole") / "samples.jsonl"
    assert sample(output)
    return output


def texts(path) -> dict[str, list[str]]:
    return {problem.id: [one.text for one in problem.samples] for problem in read_samples(path)}


def after(calls: int):
    """Returns a `stop` that is true from that call on."""
    left = iter([False] * (calls - 1))
    return lambda: next(left, True)


def test_each_problem_has_exactly_as_many_samples(whole):
    problems = read_samples(whole)
    assert [len(problem.samples) for problem in problems] == [4] * len(EXPRESSIONS)
    assert [problem.row["question"] for problem in problems] == list(EXPRESSIONS)
    assert len({one.text for problem in problems for one in problem.samples}) > len(EXPRESSIONS)
    assert list(whole.parent.iterdir()) == [whole]  # neither a journal nor a lock


def test_samples_depend_on_neither_batch_size_nor_order_nor_neighbours(sample, whole, tmp_path):
    expected = texts(whole)
    for name, changes in {
        "one at a time": {"batch_size": 1},
        "together": {"batch_size": 64},
        "reversed": {"questions": EXPRESSIONS[::-1]},
        "others": {"questions": (EXPRESSIONS[7], "[MAX 9 [SUM 1 2 3 4 5 ] [MED 7 7 2 ] 0 1 ]", EXPRESSIONS[2])},
    }.items():
        sample(tmp_path / name, **changes)
        found = texts(tmp_path / name)
        assert len(found.keys() & expected.keys()) >= 2
        assert all(found[id] == expected[id] for id in found.keys() & expected.keys()), name


def test_a_longer_neighbour_changes_neither_samples_nor_settings(sample, whole, tmp_path):
    """Its explanation is longer than the trained ones, and so is the limit of its samples alone."""
    output = tmp_path / "samples.jsonl"
    sample(output, 1, EXPRESSIONS[:2])
    longer = "[MAX 1 [MIN 4 7 2 3 ] [SUM 1 [MED 3 4 5 6 ] 2 ] [MIN 7 [MAX 1 2 3 ] 9 ] [SUM 2 [MIN 2 3 ] 8 4 ] ]"
    sample(output, 1, (EXPRESSIONS[0], longer, EXPRESSIONS[1]))  # added to the file
    found = read_samples(output)
    limits = [problem.row["sampling"]["max_length"] for problem in found]
    assert limits[0] == limits[2] < limits[1] and [problem.row["question"] for problem in found][1] == longer
    expected = texts(whole)
    assert all(texts(output)[problem.id] == expected[problem.id][:1] for problem in (found[0], found[2]))


def test_more_samples_keep_the_first_and_equal_those_of_one_run(sample, whole, tmp_path):
    output = tmp_path / "samples.jsonl"
    sample(output, 2)
    first = [json.loads(line)["samples"] for line in output.read_text().splitlines()]
    sample(output, 4)
    assert [json.loads(line)["samples"][:2] for line in output.read_text().splitlines()] == first
    assert texts(output) == texts(whole)


def test_new_problems_are_added_and_all_have_as_many(sample, whole, tmp_path):
    output = tmp_path / "samples.jsonl"
    sample(output, 2, EXPRESSIONS[3:6])
    sample(output)
    assert texts(output) == texts(whole) and list(texts(output)) == list(texts(whole))


def test_a_stopped_run_resumes_to_the_same_bytes(sample, whole, tmp_path, capsys):
    output = tmp_path / "samples.jsonl"
    assert not sample(output, stop=after(2))
    assert "2 of 6 batches are complete" in capsys.readouterr().err and not output.exists()
    assert not sample(output, stop=after(3), batch_size=64)  # the batches are those of the journal
    assert sample(output) and output.read_bytes() == whole.read_bytes()


def test_a_journal_cut_anywhere_resumes_to_the_same_bytes(sample, whole, tmp_path):
    output, rng = tmp_path / "samples.jsonl", random.Random(0)
    journal = Journal(output)
    sample(output, stop=after(4))
    data = journal.path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(data) if byte == ord("\n")]
    for cut in (10, ends[0], ends[2] - 1, *rng.sample(range(len(data)), 2)):
        output.unlink(missing_ok=True)
        journal.path.write_bytes(data[:cut])
        assert sample(output) and output.read_bytes() == whole.read_bytes(), cut


@pytest.mark.parametrize(
    ("place", "text", "words"),
    [
        (0, "{}", "is not the journal of a sample file; move or remove it"),
        (0, '{"settings": {"task": 5}, "num_samples": 4, "inputs_per_batch": 2, "counts": [0]}', "is not the journal"),
        (1, "{}", 'line 2 is corrupt; expected a JSON object with "batch", "id", "samples"'),
        (1, "[]", 'line 2 is corrupt; expected a JSON object with "batch", "id", "samples"'),
    ],
)
def test_a_corrupt_journal_is_named(tmp_path, place, text, words):
    journal = Journal(tmp_path / "samples.jsonl")
    journal.start({"settings": {}, "num_samples": 4, "inputs_per_batch": 2, "counts": [0]})
    journal.add(0, {"a": []})
    lines = journal.path.read_text().splitlines()
    lines[place] = text
    journal.path.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=words):
        journal.head()
        journal.batches()


def test_a_rerun_of_a_complete_run_changes_nothing(sample, whole, capsys):
    before = whole.stat().st_mtime_ns
    assert sample(whole) and whole.stat().st_mtime_ns == before
    assert "has 4 samples of each problem" in capsys.readouterr().out


def test_a_journal_that_is_in_the_file_already_is_dropped(sample, whole, tmp_path):
    """As when the process was killed between writing the file and removing the journal."""
    output = tmp_path / "samples.jsonl"
    sample(output, 2, stop=after(2))
    journal = Journal(output).path.read_bytes()
    sample(output, 2)
    Journal(output).path.write_bytes(journal)
    assert sample(output) and texts(output) == texts(whole) and not Journal(output).path.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"config": dataclasses.replace(HOT, seed=4)}, "seed=3, not 4"),
        ({"config": dataclasses.replace(HOT, temperature=0.5)}, "temperature=2.0, not 0.5"),
        ({"config": dataclasses.replace(HOT, top_p=0.5)}, "top_p=1.0, not 0.5"),
        ({"decode_config": DecodeConfig("int8")}, "decode_dtype='float32', not 'int8'"),
    ],
)
def test_other_settings_are_refused_by_name(sample, whole, tmp_path, changes, words):
    with pytest.raises(UserError, match=words):
        sample(whole, **changes)
    output = tmp_path / "samples.jsonl"
    sample(output, stop=after(1))
    with pytest.raises(UserError, match=words):
        sample(output, **changes)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("model", "0123", "from another checkpoint .model='0123', not .*; give that one, or another --output"),
        ("step", 7, "from another checkpoint .step=7, not "),
        ("problem", "math", "from another dataset .problem='math', not 'listops'"),
        ("max_length", 8, "from another dataset .max_length=8, not "),
    ],
)
def test_another_checkpoint_or_dataset_is_refused_as_one(sample, whole, tmp_path, name, value, words):
    rows = [json.loads(line) for line in whole.read_text().splitlines()]
    rows[0]["sampling"][name] = value
    output = tmp_path / "samples.jsonl"
    output.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=words):
        sample(output)


def test_another_number_or_other_problems_are_refused(sample, whole, tmp_path):
    with pytest.raises(UserError, match="has 4 samples of .* more than --num_samples 2"):
        sample(whole, 2)
    with pytest.raises(UserError, match="samples of other examples, 10 with ids such as"):
        sample(whole, questions=EXPRESSIONS[:2])
    output = tmp_path / "samples.jsonl"
    sample(output, stop=after(1))
    with pytest.raises(UserError, match="num_samples=4, not 5"):
        sample(output, 5)
    with pytest.raises(UserError, match="of other examples"):
        sample(output, questions=EXPRESSIONS[::-1])


def test_the_same_id_twice_is_refused(sample, weights, tmp_path):
    with pytest.raises(UserError, match="examples 1 and 3 are the same, .*; remove one, give JSON rows with ids"):
        sample(tmp_path / "s", questions=(*EXPRESSIONS[:2], EXPRESSIONS[0]))
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"id": "a", "expression": text}) + "\n" for text in EXPRESSIONS[:2]))
    with pytest.raises(UserError, match="examples 1 and 2 have the same id 'a'; give each an id of its own"):
        sampling.sample(weights, QuestionInputs((), rows), SampleRun(tmp_path / "s", 1, HOT, DecodeConfig()))


def test_two_processes_do_not_share_a_file(sample, tmp_path):
    output = tmp_path / "samples.jsonl"
    with locked(output), pytest.raises(UserError, match="another process is writing"):
        sample(output)
    assert sample(output)


def test_log_probabilities_are_the_model_s_own(sample, whole, tmp_path):
    """At any temperature, and filtered or not: the same text has the same one."""
    sample(tmp_path / "cold", config=SamplingConfig(0.7, top_k=5, top_p=0.9))
    known = {
        (problem.id, one.text): one.logprob for problem in read_samples(whole) for one in problem.samples if not one.cut
    }
    pairs = [
        (one.logprob, known[problem.id, one.text])
        for problem in read_samples(tmp_path / "cold")
        for one in problem.samples
        if (problem.id, one.text) in known
    ]
    assert len(pairs) > 5 and [a for a, _ in pairs] == pytest.approx([b for _, b in pairs], rel=1e-3, abs=1e-5)


def test_infer_s_layout_has_a_line_for_each_sample(sample, tmp_path):
    sample(tmp_path / "s", questions=EXPRESSIONS[:2], output_format="infer")
    lines = [json.loads(line) for line in (tmp_path / "s").read_text().splitlines()]
    assert [line["expression"] for line in lines] == [EXPRESSIONS[0]] * 4 + [EXPRESSIONS[1]] * 4
    assert {"answer", "explanation", "check"} <= set(lines[0])
