"""What the client may cost: no other part's packages, and a command that answers at once."""

import subprocess
import sys
import time

import pytest

HEAVY = ("torch", "transformers", "sqlalchemy", "fastapi", "uvicorn", "streamlit", "celery", "pyarrow", "numpy")
OURS = ("trainer", "store", "api", "worker", "dashboard")


def imported_by(code: str) -> set[str]:
    """The top-level modules in memory after `code`, in a fresh interpreter."""
    script = f"{code}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return set(result.stdout.split())


@pytest.mark.parametrize(
    "code",
    ["import client", "from client import Asym", "import client.cli", "import client.up", "import client.demo"],
)
def test_the_client_imports_no_other_part_and_nothing_heavy(code: str) -> None:
    assert not imported_by(code) & {*HEAVY, *OURS}


def test_the_command_line_does_without_httpx_until_it_is_needed() -> None:
    assert "httpx" not in imported_by("import client.cli")


def test_help_comes_in_well_under_a_second() -> None:
    def seconds() -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "client", "--help"], capture_output=True, check=True, timeout=60)
        return time.perf_counter() - began

    # The best of several, since a shared machine may be busy with something else for a moment.
    assert min(seconds() for _ in range(5)) < 0.8
