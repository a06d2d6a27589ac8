"""`./dev sdk` (python -m client.generate_sync): writes client/_sync from client/_async, by unasync, in ruff's format.

For developers: neither the SDK nor the command imports it. A test holds what is checked in against what it would write.
"""

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
import tokenize
from pathlib import Path

SOURCE, TARGET = "_async", "_sync"
NOTICE = "# Generated from client/_async/{name} by `./dev sdk`; edit it there.\n"
NAMES = {
    "_async": "_sync",
    "aclose": "close",
    "aiter_bytes": "iter_bytes",
    "aiter_raw": "iter_raw",
    "aiter_sse": "iter_sse",
    "anext": "next",
    "aread": "read",
    "unpack_async": "unpack",
}
"""Besides the prefix `Async`, which goes, and what unasync knows."""


def generate(package: Path) -> dict[str, str]:
    """The text of each module of package/_sync, by its file's name."""
    from unasync import Rule, unasync_files

    sources = sorted((package / SOURCE).glob("*.py"))
    prefixed = {name: name.removeprefix("Async") for path in sources for name in _prefixed_names(path.read_text())}
    rule = Rule(f"/{SOURCE}/", f"/{TARGET}/", additional_replacements={**prefixed, **NAMES})
    texts = {}
    with tempfile.TemporaryDirectory() as scratch:
        # unasync writes into a folder beside the one that it reads.
        folder = Path(scratch) / SOURCE
        shutil.copytree(package / SOURCE, folder)
        unasync_files([str(folder / path.name) for path in sources], [rule])
        for path in sources:
            text = (Path(scratch) / TARGET / path.name).read_text()
            if path.name == "__init__.py":
                text = '"""The SDK without asyncio, generated: see client/_async."""\n'
            texts[path.name] = _formatted(NOTICE.format(name=path.name) + text, package / TARGET / path.name)
    return texts


def _prefixed_names(source: str) -> set[str]:
    """Names that begin with `Async`, also those in quotes, which are forward references."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    names = {token.string.strip("\"'") for token in tokens if token.type in (tokenize.NAME, tokenize.STRING)}
    return {name for name in names if name.isidentifier() and name.startswith("Async")}


def _formatted(text: str, path: Path) -> str:
    """As ruff leaves it at this place: lines are shorter and names sort otherwise without `Async`."""
    ruff, root = str(Path(sys.executable).with_name("ruff")), path.parents[2]
    for step in (["check", "--fix", "--exit-zero", "--quiet"], ["format", "--quiet"]):
        # Said, since ruff tells what is ours by what is on the disk, where _sync may not be yet.
        argv = [ruff, *step, "--config", 'lint.isort.known-first-party=["client"]', "--stdin-filename", str(path), "-"]
        text = subprocess.run(argv, input=text, capture_output=True, text=True, check=True, cwd=root).stdout
    return text


def main() -> int:
    argparse.ArgumentParser(prog="./dev sdk", description=__doc__).parse_args()
    package = Path(__file__).parent
    texts = generate(package)
    folder = package / TARGET
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)
    for old in {path.name for path in folder.glob("*.py")} - set(texts):
        (folder / old).unlink()
    print(f"wrote {len(texts)} files of client/{TARGET}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
