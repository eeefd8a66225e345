"""The compact SentencePiece vocabulary that ships with the package; make.py wrote it."""

from pathlib import Path

COMPACT: str = str(Path(__file__).with_name("compact.model"))
