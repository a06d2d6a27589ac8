"""What ./dev build makes: its contents are the tree's, and the wheel alone, in an empty directory, is the platform."""

import json
import os
import subprocess
import sys
import tarfile
import time
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import httpx
import psutil
import pytest

from client.front import free_port

ROOT = Path(__file__).parents[3]
PACKAGES = ("api", "client", "dashboard", "migrations", "store", "trainer", "worker")
WITH_THEM = (".ci", "bench", "docker", "docs", "examples", "tests")
BESIDE_THEM = (
    "ARCHITECTURE.md", "CHANGELOG.md", "LICENSE", "MANIFEST.in", "README.md", "dev", "docker-compose.yml",
    "pyproject.toml",
)  # fmt: skip
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
VERSION = PROJECT["version"]
START_SECONDS = 120.0


def in_tree(folders: tuple[str, ...]) -> set[str]:
    """The files below these folders, relative to the root, without what Python leaves behind."""
    return {
        str(path.relative_to(ROOT))
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what ./dev build makes."""
    out = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, str(ROOT / ".ci" / "distributions.py"), "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    names = [
        f"{name}-{VERSION}{end}" for name in ("asym_core", "asym_platform") for end in ("-py3-none-any.whl", ".tar.gz")
    ]
    assert sorted(path.name for path in out.iterdir()) == names
    assert sorted(done.stdout.splitlines()) == [str(out / name) for name in names]
    return out


def test_the_wheel_holds_our_packages_and_nothing_else(built: Path) -> None:
    with zipfile.ZipFile(built / f"asym_core-{VERSION}-py3-none-any.whl") as wheel:
        names = set(wheel.namelist())
    about = {name for name in names if name.startswith(f"asym_core-{VERSION}.dist-info/")}
    assert names - about == in_tree(PACKAGES)
    assert {f"{package}/py.typed" for package in PACKAGES} < names
    for licence in PROJECT["license-files"]:
        assert f"asym_core-{VERSION}.dist-info/licenses/{licence}" in about


def test_the_sdist_holds_the_tree(built: Path) -> None:
    root = f"asym_core-{VERSION}/"
    with tarfile.open(built / f"asym_core-{VERSION}.tar.gz") as sdist:
        names = {member.name.removeprefix(root) for member in sdist if member.isfile()}
    made = {name for name in names if name.startswith("asym_core.egg-info/")} | {"PKG-INFO", "setup.cfg"}
    assert set(BESIDE_THEM) < names
    beside = {name for name in names if "/" not in name}
    assert names - made - beside == in_tree((*PACKAGES, *WITH_THEM))
    assert beside <= {*BESIDE_THEM, "PKG-INFO", "setup.cfg", ".dockerignore", ".gitignore"}


def test_asym_platform_requires_everything_of_the_same_version_and_passes_the_extras_on(built: Path) -> None:
    with zipfile.ZipFile(built / f"asym_platform-{VERSION}-py3-none-any.whl") as wheel:
        assert all(name.startswith(f"asym_platform-{VERSION}.dist-info/") for name in wheel.namelist())
        about = HeaderParser().parsestr(wheel.read(f"asym_platform-{VERSION}.dist-info/METADATA").decode())
    required = about.get_all("Requires-Dist", [])
    assert f"asym-core[all]=={VERSION}" in required
    assert f'asym-core[tensorboard]=={VERSION}; extra == "tensorboard"' in required
    assert set(about.get_all("Provides-Extra", [])) == set(PROJECT["optional-dependencies"]) - {"dev", "verl"}


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a fresh environment with the wheel in it. Other people's packages are those of this environment, by
    their folder: what only a .pth file of there would bring, as the tree itself, is not to be had."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    wheel = built / f"asym_core-{VERSION}-py3-none-any.whl"
    pip = [sys.executable, "-m", "pip", "--quiet", "--python", str(python), "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    others = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (site / "others.pth").write_text("".join(f"{path}\n" for path in others))
    return python.parent


@pytest.mark.timeout(300)
def test_from_the_wheel_the_platform_trains_in_an_empty_directory(
    installed: Path, models_cache: Path, tmp_path: Path
) -> None:
    here, home = tmp_path / "here", tmp_path / "home"
    # Somebody's own packages are called as ours are; none of them may be taken for ours.
    for name in PACKAGES:
        (here / name).mkdir(parents=True)
        (here / name / "__init__.py").write_text("raise SystemExit('the wrong package')\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ASYM_", "PYTHON"))}
    environment = {**kept, "ASYM_HOME": str(home), "OMP_NUM_THREADS": "1"}
    imports = f"import json, {', '.join(PACKAGES)}; print(json.dumps([m.__file__ for m in ({', '.join(PACKAGES)})]))"
    found = subprocess.run(
        [installed / "python", "-P", "-c", imports],
        env=environment,
        cwd=here,
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(Path(path).is_relative_to(installed.parent) for path in json.loads(found.stdout))

    def asym(*arguments: str) -> str:
        command = [str(installed / "asym"), *arguments]
        done = subprocess.run(
            command, env=environment, cwd=here, capture_output=True, text=True, timeout=180, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    ports = {"--api-port": free_port(), "--dashboard-port": free_port()}
    command = [str(installed / "asym"), "up", *(str(word) for pair in ports.items() for word in pair)]
    with (tmp_path / "output").open("wb") as output:
        up = subprocess.Popen(
            command, env=environment, cwd=here, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while "ready in" not in (tmp_path / "output").read_text():
            assert up.poll() is None, (tmp_path / "output").read_text()
            assert time.monotonic() < deadline, (tmp_path / "output").read_text()
            time.sleep(0.1)
        (home / "models-cache").symlink_to(models_cache)
        assert httpx.get(f"http://127.0.0.1:{ports['--api-port']}/readyz").json() == {"status": "ok"}
        assert httpx.get(f"http://127.0.0.1:{ports['--dashboard-port']}/").status_code == 200
        ours = [each.cmdline() for each in psutil.Process(up.pid).children(recursive=True) if "python" in each.name()]
        assert {command[0] for command in ours} == {str(installed / "python")}
        (here / "rows.jsonl").write_text('{"prompt": "1+1=", "answer": "2"}\n{"prompt": "1+2=", "answer": "3"}\n')
        spec = {
            "name": "from the wheel",
            "model": {"id": "builtin/tiny-arith"},
            "data": {"train": "rows.jsonl"},
            "reward": {"kind": "exact"},
            "rollout": {"group_size": 4, "max_new_tokens": 2},
            "optim": {"prompts_per_step": 2},
            "train": {"steps": 2},
        }
        (here / "spec.yaml").write_text(json.dumps(spec))
        job = asym("submit", "spec.yaml", "--watch").strip()
        assert json.loads(asym("metrics", job, "--json"))["keys"]["reward/mean"]["step"] == [1, 2]
        doctor = subprocess.run(
            [installed / "asym", "doctor"], env=environment, cwd=here, capture_output=True, text=True
        )
        assert f"asym {VERSION}" in doctor.stdout
    finally:
        up.terminate()
        assert up.wait(90) == 0, (tmp_path / "output").read_text()
