"""What the shell is offered on Tab, asked as the shell asks; and tables and bars, which are for terminals."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.cli import app, completion, output
from client.front import free_port
from tests.unit.client.conftest import Server
from tests.unit.client.test_exit_codes import JOB


@pytest.fixture(autouse=True)
def api(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ASYM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ASYM_API_URL", server.url)
    monkeypatch.setenv("ASYM_API_KEY", "asym_x")


def complete(words: str) -> subprocess.CompletedProcess[str]:
    """As bash does after `asym WORDS<Tab>`."""
    import os

    asked = {"_ASYM_COMPLETE": "complete_bash", "COMP_WORDS": f"asym {words}", "COMP_CWORD": str(len(words.split(" ")))}
    argv = [sys.executable, "-c", "from client.cli import main; main()"]
    return subprocess.run(argv, env={**os.environ, **asked}, capture_output=True, text=True, check=False, timeout=60)


def test_ids_of_jobs_are_offered(server: Server) -> None:
    server.answer(200, {"data": [JOB, {**JOB, "id": "job_22"}, {**JOB, "id": "job_3"}], "has_more": False})
    done = complete("watch job_2")
    assert (done.stdout.split(), done.stderr) == (["job_22"], "")
    assert "limit=50" in server.requests[0][1]


def test_commands_and_statuses_are_offered_without_asking_anybody(server: Server) -> None:
    assert complete("dat").stdout.split() == ["datasets"]
    assert complete("jobs --status can").stdout.split() == ["cancelling", "cancelled"]
    assert server.requests == []


def test_ids_of_data_sets_and_sweeps_are_offered(server: Server) -> None:
    server.answer(200, {"data": [{"id": "ds_1", "name": "sums", "rows": 3}], "has_more": False})
    assert completion.datasets("ds") == [("ds_1", "sums, 3 rows")]
    server.answer(200, {"data": [{"id": "sweep_1", "name": "betas", "members": 6}], "has_more": False})
    assert completion.sweeps("") == [("sweep_1", "betas, 6 jobs")]


def test_who_knows_nothing_is_silent(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answer(401, {"title": "Unauthorized"})
    assert completion.jobs("") == []
    monkeypatch.setenv("ASYM_API_URL", f"http://127.0.0.1:{free_port()}")
    assert completion.jobs("") == []
    for name in ("ASYM_API_URL", "ASYM_API_KEY"):
        monkeypatch.delenv(name)
    done = complete("watch job_")
    assert (done.stdout.strip(), done.stderr) == ("", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_shown_and_installed(shell: str, tmp_path: Path) -> None:
    import os

    home = {
        **os.environ,
        "HOME": str(tmp_path),
        "SHELL": f"/bin/{shell}",
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }
    for option in ("--show-completion", "--install-completion"):
        done = subprocess.run(
            [sys.executable, "-c", "from client.cli import main; main()", option, shell],
            env=home,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert "_ASYM_COMPLETE" in done.stdout or option == "--install-completion"
    written = [path for path in tmp_path.rglob("*") if path.is_file() and "_ASYM_COMPLETE" in path.read_text()]
    assert len(written) == 1


def test_tables_have_colours_on_terminals_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [("job_1", "succeeded"), ("succeeded", "failed")]
    output.print_table(("id", "status"), rows, empty="none")
    assert "\x1b[" not in capsys.readouterr().out
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    output.print_table(("id", "status"), rows, empty="none")
    lines = capsys.readouterr().out.splitlines()
    assert "\x1b[32msucceeded" in lines[1]
    assert "\x1b[31mfailed" in lines[2]
    assert "\x1b[32m" not in lines[2]  # a job of this name is no state


def test_a_bar_is_for_terminals_only(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with output.transfer_bar("uploading x") as progress:
        assert progress is None
    monkeypatch.setenv("FORCE_COLOR", "1")
    with output.transfer_bar("uploading [x]") as progress:
        assert progress is not None
        progress(1_000_000, 2_000_000)
        progress(2_000_000, 2_000_000)
    said = capsys.readouterr()
    assert said.out == ""
    assert "uploading [x]" in said.err
    assert "2.0/2.0 MB" in said.err


def test_an_upload_without_a_terminal_says_the_id_alone_on_stdout(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "sums.jsonl"
    path.write_text("{}\n")
    made = {"id": "ds_1", "name": "sums", "version": 1, "rows": 1, "bytes": 3, "statistics": None}
    server.answer(201, made)
    result = CliRunner().invoke(app, ["datasets", "upload", str(path)])
    assert (result.exit_code, result.stdout) == (0, "ds_1\n")
    assert "next: put it into a spec" in result.stderr
