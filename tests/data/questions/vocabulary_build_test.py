"""`explainft vocab build`: a vocabulary in which every text can be written."""

import json
import random

import pytest
import seqio
import tensorflow as tf

from explainft.cli.main import main
from explainft.core.errors import UserError
from explainft.data.questions import records, vocabulary_build
from explainft.data.questions.importing import Import, import_questions
from explainft.data.questions.vocabulary_build import build
from explainft.data.vocabulary import EOS_ID, Vocabulary
from tests.helpers.vocabularies import TEXTS, random_texts


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Two datasets: 200 rows of arithmetic, and one without a split train."""
    directory = tmp_path_factory.mktemp("data")
    rng = random.Random(0)
    things = ["".join(rng.choices("abcdeiorstuü", k=6)) for _ in range(60)]
    rows = []
    for i in range(200):
        a, b, thing = rng.randrange(1000), rng.randrange(1000), rng.choice(things)
        explanation = f"There are {a} + {b} = <<{a}+{b}={a + b}>>{a + b} {thing}.\n  So it is {a + b}."
        rows.append(
            {
                "question": f"{chr(0xC0 + i % 60)}{i}: {a} {thing} and {b}?",
                "answer": str(a + b),
                "explanation": explanation,
            }
        )
    path = directory / "q.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, split in (("sums", "train"), ("untrained", "test")):
        import_questions(Import(name=name, problem="math", files={split: path}), directory)
    return directory


@pytest.fixture(scope="module")
def model(data_dir):
    build(["sums"], data_dir, 400, data_dir / "vocabulary.model")
    return data_dir / "vocabulary.model"


def test_records_are_read_in_order(data_dir, monkeypatch):
    directory = data_dir / "explained_questions/sums/1.0.0"
    questions = list(records.read(directory, "train"))
    assert [question.id for question in questions] == [f"train-{i}" for i in range(1, 201)]
    assert questions[0].choices == () and questions[0].explanation.startswith("There are")


def test_every_text_survives(model):
    vocabulary, seqio_s = Vocabulary(model), seqio.SentencePieceVocabulary(str(model))
    for text in [text for text in [*TEXTS, *random_texts(500), "\n\na  b\n", " \n "] if "▁" not in text]:
        ids = vocabulary.encode(text)
        assert ids == seqio_s.encode(text) == seqio_s.encode_tf(tf.constant(text)).numpy().tolist()
        assert vocabulary.decode([*ids, EOS_ID]) == text
        assert vocabulary.unknown_id not in ids


def test_special_tokens_digits_and_newline(model):
    vocabulary = Vocabulary(model)
    assert [piece.piece for piece in vocabulary.proto.pieces[:3]] == ["<pad>", "</s>", "<unk>"]
    assert len(vocabulary.encode("2024\n2024")) == len(vocabulary.encode("2024")) + 1 + 4
    assert not [p.piece for p in vocabulary.proto.pieces if sum(c.isdigit() for c in p.piece) > 1 and p.type == 1]


def test_the_same_bytes_again(data_dir, model, tmp_path):
    report = build(["sums"], data_dir, 400, tmp_path / "again.model")
    assert (tmp_path / "again.model").read_bytes() == model.read_bytes()
    assert report[0] == f"{tmp_path}/again.model: 400 tokens"
    assert "tokens (of 200); nothing is lost" in report[-1]


def test_a_small_text_yields_fewer_tokens(data_dir, tmp_path):
    report = build(["sums"], data_dir, 32_000, tmp_path / "small.model")
    size = Vocabulary(tmp_path / "small.model").size
    assert size < 32_000 and report[0].endswith(f"{size:,} tokens, all that 200 rows yield of --size=32000")


def test_many_rows_are_sampled(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(vocabulary_build, "TRAINING_ROWS", 60)
    seen = []
    train = vocabulary_build._train

    def spy(texts, size):
        seen.extend(texts)
        return train(iter(seen), size)

    monkeypatch.setattr(vocabulary_build, "_train", spy)
    report = build(["sums", "sums"], data_dir, 330, tmp_path / "sampled.model")
    assert len(seen) == 4 * 58  # an input and three targets of each seventh row of 400
    assert "of 400" in report[1]


@pytest.mark.parametrize(
    ("names", "size", "line"),
    [
        (["sums"], 200, "--size=200 must be at least 300"),
        (["sums"], 301, r"--size=301 must be at least \d+, since the text has so many characters"),
        (["absent"], 400, "no dataset 'absent' in .*run: explainft data import --name absent"),
        (["untrained"], 400, "dataset 'untrained' has no split train, only test"),
    ],
)
def test_refusals(data_dir, tmp_path, names, size, line):
    with pytest.raises(UserError, match=line) as error:
        build(names, data_dir, size, tmp_path / "v.model")
    assert "\n" not in error.value.line and not list(tmp_path.iterdir())


def test_an_existing_file_and_an_unwritable_directory(data_dir, model, tmp_path):
    with pytest.raises(UserError, match="exists; choose another --output"):
        build(["sums"], data_dir, 400, model)
    with pytest.raises(UserError, match="cannot write .*No such file or directory"):
        build(["sums"], data_dir, 400, tmp_path / "none" / "v.model")


def test_the_command(data_dir, tmp_path, capfd):
    file = tmp_path / "v.model"
    main(["vocab", "build", "sums", "--size=350", f"--output={file}", f"--tfds_data_dir={data_dir}"])
    out, err = capfd.readouterr()
    assert out.splitlines()[0] == f"{file}: 350 tokens" and "trainer_interface" not in err
