"""The fenced blocks of README and docs."""

import dataclasses
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"(?:`(?P<file>[\w./]+\.(?:py|gin|jsonl))`:\n\n)?(?:<!-- (?P<mark>[^\n]*) -->\n)?"
    r"```(?P<language>\w+)\n(?P<body>.*?)```",
    re.DOTALL,
)


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block: its page and line, and the file that the sentence before it names."""

    page: Path
    line: int
    language: str
    body: str
    mark: str  # the HTML comment above it
    file: str

    @property
    def id(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def is_run(self) -> bool:
        return not self.mark.startswith("not run: ")

    @property
    def commands(self) -> list[str]:
        """The command lines, with continuation lines joined; of a console block those after `$ `."""
        lines = self.body.replace("\\\n", " ").split("\n")
        if self.language == "console":
            return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        return [line for line in lines if line.strip() and not line.startswith("#")]


def read_blocks(page: Path, *languages: str) -> list[Block]:
    """Returns the fenced blocks of a page in these languages, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text[: m.start("body")].count("\n"), m["language"], m["body"], m["mark"] or "", m["file"] or "")
        for m in BLOCK.finditer(text)
        if m["language"] in languages
    ]


def all_blocks(*languages: str) -> list[Block]:
    """Returns the fenced blocks of all pages in these languages."""
    return [block for page in PAGES for block in read_blocks(page, *languages)]
