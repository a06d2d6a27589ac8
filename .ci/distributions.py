"""./dev build: wheel and sdist of both distributions, in dist/.

asym-core       the code; light, its parts are extras (pyproject.toml)
asym-platform   no code: requires asym-core[all] of the same version and passes the extras on

Two of them, since extras can add and never take away: `pip install asym-platform` brings all that `asym up` needs,
while what goes into another environment (the command alone, the plugin beside verl's torch) must not bring torch.
asym-platform's project is made of pyproject.toml here, so that version and extras are written down once.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CORE, WHOLE = "asym-core", "asym-platform"
OF_CORE_ALONE = ("dev", "verl")
"""The extras that asym-platform does not pass on: verl pins another torch than asym-core[all] does."""
NOT_COPIED = (".git", ".venv*", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info", "build", "dist", "runs")


def build(out: Path) -> list[Path]:
    """Build from a copy of the tree, so that nothing of an earlier build comes in; without isolation, so that no
    network is asked. The paths of what was built: of each distribution its sdist and, built from that, its wheel.
    subprocess.CalledProcessError."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="asym-build-") as folder:
        core, whole = Path(folder, CORE), Path(folder, WHOLE)
        shutil.copytree(ROOT, core, ignore=shutil.ignore_patterns(*NOT_COPIED), symlinks=True)
        whole.mkdir()
        shutil.copy(ROOT / "LICENSE", whole)
        shutil.copy(Path(__file__).with_name(f"{WHOLE}.md"), whole / "README.md")
        (whole / "pyproject.toml").write_text(project_of_whole(tomllib.loads((ROOT / "pyproject.toml").read_text())))
        for project in (core, whole):
            command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out.absolute()), str(project)]
            subprocess.run(command, check=True, stdout=sys.stderr)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return sorted(out / f"{name.replace('-', '_')}-{version}{end}" for name in (CORE, WHOLE) for end in _ENDS)


_ENDS = (".tar.gz", "-py3-none-any.whl")


def project_of_whole(core: dict[str, Any]) -> str:
    """The pyproject.toml of asym-platform, of that of asym-core."""
    project = core["project"]
    version = project["version"]
    extras = [name for name in project["optional-dependencies"] if name not in OF_CORE_ALONE]
    lines = [
        "[build-system]",
        *(f"{name} = {json.dumps(value)}" for name, value in core["build-system"].items()),
        "",
        "[project]",
        f'name = "{WHOLE}"',
        *(f"{key} = {json.dumps(project[key])}" for key in ("version", "description", "requires-python", "license")),
        'readme = "README.md"',
        'license-files = ["LICENSE"]',
        f'dependencies = ["{CORE}[all]=={version}"]',
        "",
        "[project.optional-dependencies]",
        *(f'{name} = ["{CORE}[{name}]=={version}"]' for name in extras),
        "",
        "[tool.setuptools]",
        "packages = []",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="./dev build", description="Wheels and sdists of both distributions.")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    for path in build(parser.parse_args().out):
        print(path)
