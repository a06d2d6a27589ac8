"""Links that leave docs/ and stay in the repository: their targets become pages of the site, so that none is broken
there.

On GitHub `../bench/README.md` is a file beside docs/; the site has docs/ alone. Each file that a page links to is
shown under `repository/`, Markdown as a page, anything else as its text.
"""

import re
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[1]
FOLDER = "repository"
_LINK = re.compile(r"(?<=\]\()(?P<target>(?:\.\./)+[^)#\s]+)(?P<anchor>#[^)\s]*)?(?=\))")
_FENCE = re.compile(r"^(?P<fence>`{3,}).*?^(?P=fence)\s*$", re.MULTILINE | re.DOTALL)
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".sh": "bash", ".toml": "toml", ".json": "json"}
_PICTURES = (".png", ".svg")


def leaving(text: str, page: PurePosixPath) -> dict[str, PurePosixPath]:
    """Link as it is written -> the file it means, relative to the repository, of every link that leaves docs/.

    page: relative to docs/. FileNotFoundError names a target that is not there.
    """
    found = {}
    for match in _LINK.finditer(_FENCE.sub("", text)):
        path = (ROOT / "docs" / page.parent / match["target"]).resolve().relative_to(ROOT)
        if path.parts[0] == "docs":
            continue
        if not (ROOT / path).exists():
            raise FileNotFoundError(f"{page} links to {match['target']}: there is no {path}")
        found[match["target"]] = PurePosixPath(path)
    return found


def shown_at(path: PurePosixPath) -> str:
    """Where the site has a file of the repository."""
    if path.suffix == ".md":
        # A README stands for its folder, and would be the folder's index beside an index.md.
        return f"{FOLDER}/{path}".replace("README.md", "readme.md")
    return f"{FOLDER}/{path}" if path.suffix in _PICTURES else f"{FOLDER}/{path}.md"


def rewritten(text: str, page: PurePosixPath) -> str:
    """The page with its links to the repository's files turned into links to what the site shows of them."""
    targets = leaving(text, page)
    up = "../" * len(page.parent.parts)

    def turned(match: re.Match[str]) -> str:
        path = targets.get(match["target"])
        return match[0] if path is None else f"{up}{shown_at(path)}{match['anchor'] or ''}"

    return _LINK.sub(turned, text)


def without_links(text: str) -> str:
    """Markdown with its links into the repository as plain text, and without its pictures."""
    text = re.sub(r"!\[[^\]]*\]\((?!https?:)[^)]*\)\n?", "", text)
    return re.sub(r"\[([^\]]*)\]\((?!https?:|#)[^)]*\)", r"\1", text)


def shown(path: PurePosixPath) -> str | bytes:
    """What the site shows of a file, or of a folder's names."""
    file = ROOT / path
    if file.is_dir():
        names = sorted(f"- `{each.name}{'/' * each.is_dir()}`" for each in file.iterdir() if each.name[0] not in "._")
        return f"# {path}/\n\n" + "\n".join(names) + "\n"
    if path.suffix in _PICTURES:
        return file.read_bytes()
    text = file.read_text()
    if path.suffix == ".md":
        return text
    language = _LANGUAGES.get(path.suffix, "text")
    return f"# {path}\n\n````{language}\n{text}````\n"
