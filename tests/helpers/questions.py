"""A dataset of made-up questions, imported as a user would."""

import json
import random
from pathlib import Path

import sentencepiece

from explainft.data.questions.importing import Import, import_questions

HOMES = {"fish": "sea", "bird": "air", "mole": "earth", "frog": "pond", "bee": "hive", "bear": "cave"}


def rows(n: int, seed: int = 0) -> list[dict]:
    """Returns questions with four choices and an explanation of two lines."""
    rng = random.Random(seed)
    made = []
    for i in range(n):
        animal, home = rng.choice(sorted(HOMES.items()))
        choices = [home, *rng.sample(sorted(set(HOMES.values()) - {home}), 3)]
        rng.shuffle(choices)
        question = f"Where does {animal} {seed}-{i} live?"
        explanation = f"The {animal} is at home in the {home}.\nNo other place suits it."
        made.append({"question": question, "choices": choices, "answer": home, "explanation": explanation, "level": i})
    return made


def write_jsonl(path: Path, rows: list[dict]) -> Path:
    """Writes rows as JSON lines, and returns the path."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def train_vocabulary(path: Path, size: int = 300, without: str = "") -> Path:
    """Trains a SentencePiece model on the questions, with newlines as tokens, and returns its path.

    It cannot write a character that is given as `without`.
    """
    texts = [text for row in rows(60) for text in (row["question"], *row["choices"], row["explanation"])]
    texts = [text.replace(without, "") for text in texts] if without else texts
    with open(path, "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts), model_writer=file, vocab_size=size, hard_vocab_limit=False,
            byte_fallback=not without,
            pad_id=0, eos_id=1, unk_id=2, bos_id=-1, user_defined_symbols=["\n"], normalization_rule_name="identity",
            remove_extra_whitespaces=False, minloglevel=2,
        )  # fmt: skip
    return path


def import_homes(directory: Path, data_dir: Path, name: str = "homes", first_seed: int = 0, **settings) -> None:
    """Imports 60 questions for training, 12 for validation and 8 for test."""
    files = {
        split: write_jsonl(directory / f"{split}.jsonl", rows(n, seed))
        for seed, (split, n) in enumerate((("train", 60), ("validation", 12), ("test", 8)), first_seed)
    }
    import_questions(Import(name=name, problem="choice", files=files, **settings), data_dir)
