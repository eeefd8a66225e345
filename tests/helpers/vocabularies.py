"""A small vocabulary with T5's characters, and texts that T5's cannot write."""

import io
import random
from pathlib import Path

import sentencepiece

from explainft.data.replacement import CODES, MARK, SWAPS, WRITTEN

TEXTS = [
    "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\nShe sold <<48+24=72>>72 altogether.\n#### 72",
    "So $x^2 = \\frac{1}{2}$,\n\nand \\boxed{\\left\\{ x \\mid x < 5 \\right\\}}.",
    "3 × 4 − 2 ÷ 1 = 10, 5² + 1³ = 26, ½ of it",
    "a  b   c    d ",
    "\tindented\r\n  code:\n\n    `x = ~y`\n",
    "“«quoted»” • listed ®, f′(x), „unten“",
    "•_ •o •20013; •",
    "中文, \u200bzero width, e\u0301, ﬁne, \U0001f600, \x00, ▁",
    " ",
    "\n",
    "",
    "<extra_id_0> and </s>",
]


def random_texts(n):
    rng = random.Random(0)
    pool = [*" \n\t_();,0123456789ab", *CODES, *CODES.values(), *SWAPS, *(MARK * 8), "中", "e\u0301", "\u200b", "\x00"]
    pool += ["•57;", "•55296;", "•1114112;", "•9999999;", "•8226;", "•120;"]
    return ["".join(rng.choices(pool, k=rng.randrange(25))) for _ in range(n)]


def write_t5_characters(path: Path) -> Path:
    """Writes a SentencePiece model with T5's characters and normalization; returns the path."""
    written = [chr(c) for c in range(33, 127) if chr(c) not in "<{}\\^~`"] + [*WRITTEN, MARK]
    model = io.BytesIO()
    prose = [f"{a} {b} {c}" for a in "abc" for b in ("the", "of", "24") for c in written]
    sentencepiece.SentencePieceTrainer.train(  # pyright: ignore[reportAttributeAccessIssue]
        sentence_iterator=iter(prose),
        model_writer=model,
        vocab_size=400,
        hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc",
        character_coverage=1.0,
        required_chars="".join(written),
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    path.write_bytes(model.getvalue())
    return path
