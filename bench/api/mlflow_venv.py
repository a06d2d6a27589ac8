"""MLflow's own virtual environment: its requirements are many, and none of them ours."""

import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".venv-mlflow"
REQUIREMENTS = ("mlflow==3.17.2", "psycopg2-binary>=2.9,<3")


def mlflow_python() -> Path:
    """The interpreter that has MLflow; makes its environment the first time (minutes)."""
    python, stamp = FOLDER / "bin" / "python", FOLDER / ".requirements"
    wanted = hashlib.sha256(repr(REQUIREMENTS).encode()).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    print(f"bench: installing MLflow into {FOLDER.name} (some minutes the first time)", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", FOLDER], check=True)
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS], check=True
    )
    stamp.write_text(wanted)
    return python
