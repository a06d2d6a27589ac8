import subprocess
import sys
from pathlib import Path

import worker


def test_the_worker_never_imports_torch():
    """It supervises many trainers on one machine; torch is theirs, and half a gigabyte each."""
    modules = [f"worker.{path.stem}" for path in Path(worker.__file__).parent.glob("*.py") if path.stem != "__init__"]
    assert "worker.__main__" in modules
    program = f"import sys\nfor name in {modules!r}: __import__(name)\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "worker.supervisor" in loaded
    assert not {"torch", "transformers", "numpy"} & set(loaded)
