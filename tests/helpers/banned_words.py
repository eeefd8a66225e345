"""Refuse words that the project replaced by the field's: `make lint` runs this.

The pairs are those of docs/design/glossary.md. A word is allowed in the files that its row names, where it has its
ordinary meaning.
"""

import fnmatch
import re
import subprocess
import sys
from pathlib import Path

SUFFIXES = {".py", ".gin", ".md", ".sh", ".toml", ".cff", ".js", ".css", ".html", ""}
SKIPPED = ("tests/helpers/banned_words.py", "docs/design/glossary.md", "LICENSE", "CHANGELOG.md", "tests/golden/*")

# word as a regular expression: (the field's word, files where the old one is allowed)
BANNED: dict[str, tuple[str, tuple[str, ...]]] = {
    r"matrix products?": ("matmul", ()),
    r"products? of (bfloat16|float32|two)|fewer bits": ("bfloat16 matmul, lower precision, quantized", ()),
    r"(output_|target_)?pieces": (
        "tokens, token ids, output vocabulary",
        ("*vocabular*", "*tokenizer*", "tests/training/settings_test.py"),
    ),
    r"in turns|takes? turns|taking turns": ("interleaved; one at a time", ()),
    r"drawn (again|anew)|useless|of no use": ("resampled, rejected", ()),
    r"likeliest": ("argmax", ()),
    r"anew|made again|as ever": ("rebuilt, again; unchanged", ()),
    r"keeper|set aside|sealed": ("checkpointer, quarantined, digest", ()),
    r"evaluation_owed|scored_by|out_of_patience": ("evaluation_pending, metric_id, should_stop_early", ()),
    r"goes on from|go on from|the same command goes on": ("resumes from; rerun the same command to resume", ()),
    r"(is|are|was|were) told|tells (apart|how|what|why|where)": ("is reported; prints, contains, specifies", ()),
    r"mend(s|ed|ing)?|cures?": ("fix", ()),
    r"whole numbers?": ("integer", ()),
    r"dealt out": ("distributed, sharded", ()),
    r"nobody|somebody|somebody else's": ("(passive voice)", ()),
    r"peers?": ("baseline", ()),
    r"share of peak|shares? of": ("MFU; fraction", ()),
    r"right (texts?|answers?|explanations?)|wrong texts?": ("correct outputs; gold explanation", ()),
    r"(?<!there )(is|are) no (?=[a-z])(?!longer|more|less|other|such|faster|further|doubt)": ("must be, is not a", ()),
    r"derivatives?": ("gradient", ()),
    r"computed again": ("rematerialized, recomputed", ()),
    r"last states": ("final hidden states", ()),
    r"read_again|under_way": ("register_iterative, pending", ()),
    r"jobs_that_fit|take_cores|nearest_that_fits": ("max parallel jobs, pin cores, nearest fitting config", ()),
}


def main() -> int:
    """Print each banned word with its place and the word to use. Return 1 where there is one."""
    patterns = {re.compile(rf"\b({word})\b", re.IGNORECASE): row for word, row in BANNED.items()}
    names = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.split("\n")
    found = 0
    for name in filter(None, names):
        path = Path(name)
        if path.suffix not in SUFFIXES or not path.is_file() or any(fnmatch.fnmatch(name, s) for s in SKIPPED):
            continue
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(lines, 1):
            for pattern, (standard, allowed) in patterns.items():
                match = pattern.search(line)
                if match and not any(fnmatch.fnmatch(name, a) for a in allowed):
                    found += 1
                    print(f"{name}:{number}: {match[0]!r} -> {standard}")
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
