"""A vocabulary like T5's: newlines, unknown ids, comparison, and files that are missing or invalid.

T5's own file needs the network. This one is trained here on prose and explanations. It has T5's normalization, special
pieces, sentinels and kind of model, and segments words differently.
"""

import io
import os
import random
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import sentencepiece
import seqio
import tensorflow as tf
from sentencepiece import sentencepiece_model_pb2 as model_pb2

from explainft import listops
from explainft.core.errors import UserError
from explainft.data.vocabulary import Vocabulary
from explainft.evaluation import loading, metrics
from explainft.evaluation.targets import postprocess_listops
from explainft.model.config import T5Config
from tasks import vocabularies
from tasks.vocabularies import T5Vocabulary
from tests.data.compact_vocabulary_test import random_tree

STYLES = ("none", "short", "medium", "long")
SENTINELS = 100
ROOT = Path(__file__).parents[2]
BUCKET = "gs://a-bucket/sentencepiece.model"


@pytest.fixture(scope="module")
def trees():
    rng = random.Random(0)
    return [random_tree(rng) for _ in range(300)]


def write_t5_like(path: Path, sentinels: int = SENTINELS) -> Path:
    rng = random.Random(1)
    prose = [line for module in (random, textwrap, socket) for line in (module.__doc__ or "").split("\n") if line]
    explained = [line for _ in range(50) for line in listops.explain(random_tree(rng), "long").split("\n")]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(  # pyright: ignore[reportAttributeAccessIssue]
        sentence_iterator=iter(prose + explained + [listops.format(random_tree(rng)) for _ in range(50)]),
        model_writer=model,
        vocab_size=300,
        hard_vocab_limit=False,
        model_type="unigram",
        normalization_rule_name="nmt_nfkc",
        remove_extra_whitespaces=True,
        character_coverage=0.9995,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    proto = model_pb2.ModelProto.FromString(model.getvalue())  # pyright: ignore[reportAttributeAccessIssue]
    for i in reversed(range(sentinels)):
        proto.pieces.add(piece=f"▁<extra_id_{i}>", score=0.0, type=4)  # user-defined
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.fixture(scope="module")
def t5_like(tmp_path_factory):
    return str(write_t5_like(tmp_path_factory.mktemp("vocabulary") / "sentencepiece.model"))


# ---- texts


def test_explanations_without_newlines_stay_valid(t5_like, trees):
    vocabulary, seqio_s = Vocabulary(t5_like), T5Vocabulary(t5_like)
    assert vocabulary.decode(vocabulary.encode("Max,  largest\n\n of\n")) == "Max, largest of"
    for tree in trees:
        expression = listops.format(tree)
        assert vocabulary.decode(vocabulary.encode(expression)) == expression
        for style in STYLES:
            text = listops.explain(tree, style)
            ids = vocabulary.encode(text)
            assert ids == seqio_s.encode(text) == seqio_s.encode_tf(tf.constant(text)).numpy().tolist()
            assert seqio_s.unk_id not in ids
            decoded = vocabulary.decode([*ids, seqio_s.eos_id])
            assert decoded == seqio_s.decode([*ids, seqio_s.eos_id]) == text.replace("\n", " ")
            check = listops.check(decoded, tree, style)
            assert check.valid
            assert check == listops.check(text, tree, style)


def test_errors_are_found_without_newlines(t5_like, trees):
    """An incorrect digit, and missing, duplicate or reordered lines, give the same check."""
    vocabulary = Vocabulary(t5_like)
    rng = random.Random(2)
    wrong = 0
    for tree in trees:
        for style in STYLES[1:]:
            lines = listops.explain(tree, style).split("\n")
            place = rng.randrange(len(lines))
            digit = rng.choice([i for i, character in enumerate(lines[place]) if character.isdigit()])
            other = lines[place][:digit] + str(rng.randrange(10)) + lines[place][digit + 1 :]
            for damaged in (
                lines[:place] + [other] + lines[place + 1 :],
                lines[:place] + lines[place + 1 :],
                lines[:place] + [lines[place]] + lines[place:],
                rng.sample(lines, len(lines)),
            ):
                text = "\n".join(damaged)
                check = listops.check(text, tree, style)
                assert listops.check(vocabulary.decode(vocabulary.encode(text)), tree, style) == check
                wrong += not check.valid
    assert wrong > 2000


def test_metrics_of_decoded_explanations(t5_like, trees):
    vocabulary = Vocabulary(t5_like)
    for style in STYLES:
        examples = [{"expression": listops.format(tree), "answer": listops.evaluate(tree)} for tree in trees]
        targets = [postprocess_listops("", example, is_target=True, style=style) for example in examples]
        decoded = [vocabulary.decode(vocabulary.encode(listops.explain(tree, style))) for tree in trees]
        scores = metrics.score(targets, decoded)
        assert {scores.get("exact_match"), scores.get("valid", 1.0), scores.get("step_accuracy", 1.0)} == {1.0}


# ---- ids past the last piece: T5's output layer has 32,128 columns, its vocabulary 32,100 pieces


def test_padded_ids_decode_to_the_unknown_piece(t5_like):
    vocabulary, seqio_s = Vocabulary(t5_like), T5Vocabulary(t5_like)
    number = vocabulary.encode("7")
    unknown = vocabulary.decode([*number, 2, *number])
    assert unknown.split() == ["7", "⁇", "7"]
    for beyond in (vocabulary.size, vocabulary.size + 27, 32_127):
        assert vocabulary.decode([*number, beyond, *number]) == seqio_s.decode([*number, beyond, *number]) == unknown
    assert vocabulary.decode([*number, vocabulary.size - 1]) == "7 <extra_id_0>"  # the last piece itself is known


def test_output_layer_may_exceed_the_vocabulary(t5_like):
    cache = SimpleNamespace(vocabulary=Vocabulary(t5_like), task="a_task")
    size = cache.vocabulary.size

    def config(vocab_size):
        return T5Config(vocab_size=vocab_size, emb_dim=8, num_heads=1, num_encoder_layers=1, num_decoder_layers=1,
                        head_dim=8, mlp_dim=8)  # fmt: skip

    for vocab_size in (size, size + 28):
        loading.check_vocabulary(config(vocab_size), cache)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match=f"vocab_size={size - 1} is smaller than the {size} tokens of a_task"):
        loading.check_vocabulary(config(size - 1), cache)  # pyright: ignore[reportArgumentType]


# ---- two files, one vocabulary


def changed(path, directory, change):
    proto = model_pb2.ModelProto.FromString(Path(path).read_bytes())  # pyright: ignore[reportAttributeAccessIssue]
    change(proto)
    copy = directory / "changed.model"
    copy.write_bytes(proto.SerializeToString())
    return Vocabulary(copy)


def test_equal_vocabularies_of_different_bytes(t5_like, tmp_path):
    def retrain(proto):
        proto.trainer_spec.input.append("another corpus")
        proto.trainer_spec.num_threads = 7
        proto.normalizer_spec.name = "another_name"

    vocabulary, other = Vocabulary(t5_like), changed(t5_like, tmp_path, retrain)
    assert vocabulary.digest() != other.digest()
    assert vocabulary.difference(other) is None


def test_sentinels_in_or_beside_the_file_are_equal(t5_like, tmp_path):
    bare = write_t5_like(tmp_path / "bare.model", sentinels=0)
    vocabulary = Vocabulary(t5_like)
    assert vocabulary.difference(Vocabulary(bare, extra_ids=SENTINELS)) is None
    size = vocabulary.size
    assert vocabulary.difference(Vocabulary(bare)) == f"{size} tokens here, {size - SENTINELS} there"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda p: setattr(p.pieces[17], "piece", "zebra"), r"piece 17 is '.+' here, 'zebra' there"),
        (lambda p: setattr(p.pieces[17], "score", -99.0), r"piece 17, '.+', has score -.* here, -99.0 there"),
        (lambda p: setattr(p.pieces[17], "type", 4), r"piece 17, '.+', has type 1 here, 4 there"),
        (
            lambda p: setattr(p.normalizer_spec, "remove_extra_whitespaces", False),
            "normalizer_spec.remove_extra_whitespaces is True here, False there",
        ),
        (lambda p: p.normalizer_spec.ClearField("precompiled_charsmap"), "precompiled_charsmap differs"),
        (lambda p: setattr(p.trainer_spec, "unk_surface", "?"), "trainer_spec.unk_surface is ' ⁇ ' here, '[?]' there"),
    ],
)
def test_difference_is_named(t5_like, tmp_path, change, line):
    other = changed(t5_like, tmp_path, change)
    assert Vocabulary(t5_like).difference(Vocabulary(t5_like)) is None
    with pytest.raises(AssertionError, match=line):
        raise AssertionError(Vocabulary(t5_like).difference(other))


# ---- a file that is not there


def test_unreachable_bucket(monkeypatch, capfd):
    stop = threading.Event()
    monkeypatch.setattr(tf.io.gfile, "stat", lambda path: stop.wait(60))
    monkeypatch.setattr(vocabularies, "TIMEOUT_SECONDS", 0.2)
    start = time.monotonic()
    with pytest.raises(UserError, match=r"a-bucket/sentencepiece.model \(no answer in 0.2 s\); set EXPLAINFT_T5_VOCAB"):
        T5Vocabulary(BUCKET).load_model()
    assert time.monotonic() - start < 5
    stop.set()


def test_native_output_about_a_bucket_is_held_back(monkeypatch, capfd):
    def refuse(path):
        os.write(2, b"W0000 google_auth_provider.cc:196] no token\n")
        raise tf.errors.NotFoundError(None, None, "Error executing an HTTP request: 404")

    monkeypatch.setattr(tf.io.gfile, "stat", refuse)
    with pytest.raises(UserError, match=r"\(no such file\); set EXPLAINFT_T5_VOCAB") as raised:
        T5Vocabulary(BUCKET).load_model()
    assert "\n" not in raised.value.line
    assert capfd.readouterr().err == ""


def test_invalid_files(tmp_path):
    (tmp_path / "text").write_text("no model")
    (tmp_path / "empty").write_bytes(b"")
    for name, words in (
        ("absent", "cannot read .*no such file"),
        (".", "cannot read .*directory"),
        ("text", "is not a SentencePiece model"),
        ("empty", "is not a SentencePiece model"),
    ):
        with pytest.raises(UserError, match=f"{words}.*EXPLAINFT_T5_VOCAB") as raised:
            T5Vocabulary(str(tmp_path / name)).load_model()
        assert "\n" not in raised.value.line


def test_training_without_network_takes_one_line(tiny_data_dir, tmp_path):
    """The bucket's real client, whose timeout is over a minute, meets a proxy that accepts and never answers."""
    command = [
        *(sys.executable, "-m", "explainft.cli.main", "train", f"--gin_file={ROOT}/gin/medium_tiny.gin"),
        *(f"--gin.MODEL_DIR={tmp_path}/run", "--gin.MIXTURE_OR_TASK_NAME=explained_tiny_medium"),
        f"--tfds_data_dir={tiny_data_dir}",
    ]
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(50)
        proxy = f"http://127.0.0.1:{silent.getsockname()[1]}"
        environment = {**os.environ, "https_proxy": proxy, "EXPLAINFT_T5_VOCAB": "", "PYTHONPATH": str(ROOT)}
        start = time.monotonic()
        run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, cwd=tmp_path)
        seconds = time.monotonic() - start
    assert run.returncode == 2
    assert run.stderr.startswith("explainft: error: cannot read T5's vocabulary gs://")
    assert run.stderr.count("\n") == 1 and "set EXPLAINFT_T5_VOCAB" in run.stderr
    assert seconds < 30  # 3 s for the bucket; the rest is importing on a loaded machine
    assert not (tmp_path / "run").exists()


def test_reachable_bucket_is_read(t5_like, monkeypatch):
    asked = []
    monkeypatch.setattr(tf.io.gfile, "stat", asked.append)
    monkeypatch.setattr(
        seqio.vocabularies.tf.io.gfile, "GFile", lambda path, mode: io.BytesIO(Path(t5_like).read_bytes())
    )
    vocabulary = T5Vocabulary("gs://another-bucket/sentencepiece.model")
    assert vocabulary.vocab_size == seqio.SentencePieceVocabulary(t5_like).vocab_size
    assert vocabulary.encode("7") == Vocabulary(t5_like).encode("7")
    assert asked == ["gs://another-bucket/sentencepiece.model"]  # once
