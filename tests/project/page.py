"""Run the programs of one Markdown page in the working folder, in order; see test_docs.py."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Block", "blocks", "run"]

_FENCE = re.compile(r"^```(?P<info>[^`\n]*)\n(?P<text>.*?)^```\s*$", re.M | re.S)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: its language, its other words, its text, and the line it begins at."""

    language: str
    words: tuple[str, ...]
    text: str
    line: int

    @property
    def is_program(self) -> bool:
        """Whether it runs."""
        if self.language == "python":
            return self.file is None and "illustration" not in self.words
        return self.language == "bash" and "run" in self.words

    @property
    def file(self) -> str | None:
        """The file that this block is the content of."""
        return next(
            (word.removeprefix("file=") for word in self.words if word.startswith("file=")), None
        )


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found = []
    for match in _FENCE.finditer(page):
        language, *words = match["info"].split() or [""]
        line = page.count("\n", 0, match.start("text")) + 1
        found.append(Block(language, tuple(words), match["text"], line))
    return found


def run(page: Path) -> None:
    """Write and run what the page's blocks say; the first failure ends it."""
    session: dict[str, Any] = {"__name__": "__page__"}
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.file is not None:
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(block.text, encoding="utf-8")
        elif block.is_program and block.language == "python":
            # Blank lines in front, so that a traceback names the page's own line.
            source = "\n" * (block.line - 1) + block.text
            exec(compile(source, str(page), "exec"), session)  # noqa: S102 our own pages
        elif block.is_program:
            subprocess.run(["bash", "-euo", "pipefail", "-c", block.text], check=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    run(Path(sys.argv[1]).absolute())
