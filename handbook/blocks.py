"""The fenced code blocks of the documentation, each with the reason why it is not run if it has one.

`tests/documentation` runs every block of `bash` and `python` and checks every one of `yaml`, `json` and `toml`, but
for those below a comment `<!-- not run: REASON -->`. A block without a language is `text`, and holds no command.
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<language>[\w-]*)[^`\n]*$")
_MARK = re.compile(r"<!-- not run: (?P<reason>[^>]+?) -->")
COMMAND = re.compile(
    r"^(?:\$ )?(?:[A-Z_]+=\S+ )*(?:asym|curl|\./dev|pip|python3?|docker|kubectl|sbatch|srun|export)(?=\s|$)"
)
"""A line that somebody would type."""


@dataclass(frozen=True)
class Block:
    page: str
    """Relative to the repository."""
    line: int
    """Of its first fence, from 1."""
    language: str
    text: str
    reason: str | None
    """Why it is not run."""

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Every page that the documentation has."""
    fixed = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
    return fixed + sorted((ROOT / "docs").rglob("*.md"))


def of(page: Path) -> list[Block]:
    """The page's blocks, in order. ValueError for a fence that is not closed."""
    name, lines = str(page.relative_to(ROOT)), page.read_text().splitlines()
    found, number = [], 0
    while number < len(lines):
        fence = _FENCE.match(lines[number])
        if fence is None:
            number += 1
            continue
        start, closing = number, fence["indent"] + fence["ticks"]
        text = []
        for number in range(start + 1, len(lines)):
            if lines[number].rstrip() == closing:
                break
            text.append(lines[number].removeprefix(fence["indent"]))
        else:
            raise ValueError(f"{name}:{start + 1}: the block is not closed")
        mark = _MARK.search(_line_before(lines, start))
        found.append(
            Block(
                name, start + 1, fence["language"] or "text", "\n".join(text) + "\n", mark["reason"] if mark else None
            )
        )
        number += 1
    return found


def _line_before(lines: list[str], start: int) -> str:
    return next((line for line in reversed(lines[:start]) if line.strip()), "")


def stray_commands(page: Path) -> list[str]:
    """Places of lines that are indented as code is, outside of any fence, and begin as a command does."""
    places, fence = [], None
    for number, line in enumerate(page.read_text().splitlines(), 1):
        found = _FENCE.match(line)
        if found is not None:
            fence = None if fence == found["ticks"] else fence or found["ticks"]
        elif fence is None and line.startswith("    ") and COMMAND.match(line.strip()):
            places.append(f"{page.relative_to(ROOT)}:{number}")
    return places
