"""TRL's own virtual environment. Ours has TRL without its dependencies, for the oracles; here it is whole.

Versions: the pinned torch of ours, TRL 1.16.0, and transformers from our own range, which TRL accepts.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".venv-trl"
# torch first and alone: another package's requirement may bring a newer one.
REQUIREMENTS = (("torch==2.13.0",), ("trl==1.16.0", "transformers>=5.16.1,<5.20"))


def trl_python() -> Path:
    """The interpreter that has TRL; makes its environment the first time (minutes)."""
    python, stamp = FOLDER / "bin" / "python", FOLDER / ".requirements"
    wanted = hashlib.sha256(repr(REQUIREMENTS).encode()).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    print(f"bench: installing TRL into {FOLDER.name} (some minutes the first time)", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", FOLDER], check=True)
    for requirements in REQUIREMENTS:
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements], check=True
        )
    stamp.write_text(wanted)
    return python
