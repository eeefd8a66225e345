"""A SentencePiece vocabulary of one's own, trained on imported datasets. Imports TensorFlow to read them."""

import io
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median

import sentencepiece

from explainft.core.atomic_files import atomic_write
from explainft.core.errors import UserError
from explainft.data.coverage import Counts
from explainft.data.questions import records
from explainft.data.questions.descriptor import descriptor_file, read_descriptor
from explainft.data.questions.examples import Question
from explainft.data.questions.forms import FORMS, input_text, target_text
from explainft.data.vocabulary import Model, Vocabulary

TRAINING_ROWS = 200_000  # of all datasets, at equal distances; SentencePiece holds their words in memory
MEASURED_ROWS = 4_096
MIN_SIZE = 300  # 256 bytes, 3 special tokens, the newline, and characters
MAX_TEXT_BYTES = 2**24


def build(names: Sequence[str], data_dir: Path, size: int, output: Path) -> list[str]:
    """Trains a vocabulary of at most `size` tokens on the training splits and writes it; returns a report, a line each.

    It is a unigram model with T5's special tokens: padding 0, EOS 1, unknown 2. Nothing is normalized, and what has no
    token of its own is written as bytes, so that no text loses anything. Each digit is a token, and so is the newline.
    The same datasets give the same bytes.
    """
    if size < MIN_SIZE:
        raise UserError(f"--size={size} must be at least {MIN_SIZE}: 256 bytes, 3 special tokens and characters")
    if output.exists():
        raise UserError(f"{output} exists; choose another --output")
    descriptors = [read_descriptor(descriptor_file(name, data_dir)) for name in names]
    for name, descriptor in zip(names, descriptors, strict=True):
        if "train" not in descriptor.rows:
            raise UserError(f"dataset {name!r} has no split train, only {', '.join(descriptor.rows)}; import one")
    rows = sum(descriptor.rows["train"] for descriptor in descriptors)
    directories = [descriptor_file(name, data_dir).parent for name in names]
    model = _train(_texts(_every(TRAINING_ROWS, rows, _questions(directories))), size)
    try:
        with atomic_write(output) as scratch:
            scratch.write_bytes(model)
    except OSError as error:
        raise UserError(f"cannot write {output} ({error.strerror}); choose another --output") from error
    return _report(Vocabulary(output), size, list(_every(MEASURED_ROWS, rows, _questions(directories))), rows)


def _questions(directories: Iterable[Path]) -> Iterator[Question]:
    for directory in directories:
        yield from records.read(directory, "train")


def _every(most: int, rows: int, questions: Iterable[Question]) -> Iterator[Question]:
    """Yields every n-th question, at most `most` of them."""
    step = -(-rows // most)
    return (question for i, question in enumerate(questions) if i % step == 0)


def _texts(questions: Iterable[Question]) -> Iterator[str]:
    for question in questions:
        yield input_text(question.question, question.choices)
        for form in FORMS if question.explanation else FORMS[:1]:
            yield target_text(form, question.answer, question.explanation)


def _train(texts: Iterator[str], size: int) -> bytes:
    model = io.BytesIO()
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as rules:
        # Texts are not changed: the rule is for two code points that Unicode assigns to nothing. Without any rule,
        # SentencePiece prints a line each time that it loads the model.
        rules.write("FFFE\tFFFF\n")
        rules.flush()
        _train_with(rules.name, texts, size, model)
    proto = Model.FromString(model.getvalue())
    proto.normalizer_spec.normalization_rule_tsv = ""  # a name that is new each time
    return proto.SerializeToString(deterministic=True)


def _train_with(rules: str, texts: Iterator[str], size: int, model: io.BytesIO) -> None:
    try:
        sentencepiece.SentencePieceTrainer.train(  # pyright: ignore[reportAttributeAccessIssue] (made at import)
            sentence_iterator=texts,
            model_writer=model,
            vocab_size=size,
            hard_vocab_limit=False,  # a small text has fewer pieces
            model_type="unigram",
            normalization_rule_tsv=rules,
            remove_extra_whitespaces=False,
            split_digits=True,
            byte_fallback=True,
            user_defined_symbols=["\n"],
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            pad_piece="<pad>",
            num_threads=1,  # several add their sums in any order
            max_sentence_length=MAX_TEXT_BYTES,  # longer texts are left out
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        if found := re.search(r"smaller than required_chars\. (\d+) vs (\d+)", reason):
            fix = f"must be at least {found[2]}, since the text has so many characters"
        else:
            fix = f"cannot be trained on this text ({reason}); import more rows"
        raise UserError(f"--size={size} {fix}") from error


def _report(vocabulary: Vocabulary, size: int, questions: list[Question], rows: int) -> list[str]:
    note = f", all that {rows:,} rows yield of --size={size}" if vocabulary.size < size else ""
    lines = [f"{vocabulary.path}: {vocabulary.size:,} tokens{note}"]
    texts = {
        "questions": [input_text(question.question, question.choices) for question in questions],
        "answers": [question.answer for question in questions],
        "explanations": [question.explanation for question in questions if question.explanation],
    }
    for what, of_kind in texts.items():
        if not of_kind:
            continue
        lengths = [len(vocabulary.encode(text)) for text in of_kind]
        counts = Counts(vocabulary)
        for text in of_kind:
            counts.add(text)
        lost = counts.coverage().line(what) or "nothing is lost"
        lines.append(
            f"{what}: median {median(lengths):,.0f}, max {max(lengths):,} tokens (of {len(of_kind):,}); {lost}"
        )
    return lines
