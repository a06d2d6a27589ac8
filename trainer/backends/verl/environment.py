"""Whether the interpreter that is to run verl has verl, what verl imports at once, and our plugin.

verl 0.9.1 pins a torch and a transformers older than Asym's trainer does, so it has an environment of its own; it is
asked there, in a subprocess, without importing anything large.
"""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.errors import RunError

VERSION = "0.9.1"
_MODULES = ("verl", "ray", "vllm", "transfer_queue", "torchdata", "hydra", "trainer", "math_verify")
_SECONDS = 60.0

_QUESTION = f"""
import importlib.metadata as m, importlib.util as u, json
version = m.version("verl") if u.find_spec("verl") else None
plugins = [point.value for point in m.entry_points(group="verl.plugins")]
print(json.dumps([[name for name in {_MODULES!r} if u.find_spec(name) is None], version, plugins]))
"""
_PLUGIN = "trainer.backends.verl.estimator"

_INSTALL = (
    "make a virtual environment with `pip install 'asym-core[verl]'` and name its Python in ASYM_VERL_PYTHON "
    "(--verl-python)"
)


def check(python: Path, environ: Mapping[str, str]) -> None:
    """RunError that says what is missing and how to get it. environ: what verl will be started with."""
    missing, version, plugins = _ask(python, environ)
    if missing:
        raise RunError("verl_not_installed", f"{python} lacks {', '.join(missing)}: {_INSTALL}")
    if version != VERSION:
        raise RunError("verl_not_installed", f"{python} has verl {version}, this backend is for {VERSION}: {_INSTALL}")
    if _PLUGIN not in plugins:
        raise RunError(
            "verl_not_installed",
            f"{python} finds our package, but not as an installed one, so verl would not find the advantage estimator: "
            f"{_INSTALL}",
        )


def _ask(python: Path, environ: Mapping[str, str]) -> list[Any]:
    command = [str(python), "-P", "-c", _QUESTION]
    try:
        asked = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=False, env=dict(environ)
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise RunError("verl_not_installed", f"{python} cannot be run ({error}): {_INSTALL}") from error
    if asked.returncode:
        raise RunError(
            "verl_not_installed",
            f"{python} cannot say what it has (exit code {asked.returncode}): {_INSTALL}",
            evidence=asked.stderr.splitlines(),
        )
    answer: list[Any] = json.loads(asked.stdout)
    return answer
