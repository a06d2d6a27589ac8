import io
import json
import os
from pathlib import Path

import pytest

from client import combined_log
from client.combined_log import CombinedLog


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_get_their_part_s_name_and_a_file_each(tmp_path: Path) -> None:
    terminal = io.StringIO()
    log = CombinedLog(tmp_path / "logs", terminal)
    log("api", "hello")
    log("worker", "there")
    log.close()
    assert terminal.getvalue() == "api       | hello\nworker    | there\n"
    assert (tmp_path / "logs" / "api.log").read_text() == "hello\n"
    assert (tmp_path / "logs" / "worker.log").read_text() == "there\n"
    assert (tmp_path / "logs" / "all.log").read_text() == terminal.getvalue()


def test_a_terminal_gets_colors_a_part_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    log = CombinedLog(tmp_path, terminal)
    for name in ("api", "worker", "api"):
        log(name, "x")
    log.close()
    prefixes = [line.split("m", 1)[0] for line in terminal.getvalue().splitlines()]
    assert prefixes[0] == prefixes[2] != prefixes[1]


def test_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(combined_log, "FILE_BYTES", 1000)
    log = CombinedLog(tmp_path, io.StringIO())
    for number in range(1000):
        log("api", f"line {number}")
    log.close()
    files = sorted(tmp_path.glob("api.*"))
    assert [file.name for file in files] == ["api.log", "api.log.1", "api.log.2"]
    assert sum(file.stat().st_size for file in files) <= 3000
    assert files[0].read_text().splitlines()[-1].endswith("line 999")


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    terminal = os.fdopen(writing, "w")
    log = CombinedLog(tmp_path, terminal)
    log("api", "into the void")
    log("api", "and again")
    log.close()
    assert len((tmp_path / "api.log").read_text().splitlines()) == 2
    with pytest.raises(BrokenPipeError):
        terminal.close()


def test_a_log_file_that_cannot_be_written_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "api.log").mkdir()
    terminal = io.StringIO()
    log = CombinedLog(tmp_path, terminal)
    log("api", "one")
    log("api", "two")
    log.close()
    lines = terminal.getvalue().splitlines()
    assert [line for line in lines if "no more lines in" in line] == [lines[1]]
    assert lines[0].endswith("one")
    assert lines[2].endswith("two")


def test_as_json_every_line_is_an_object_whoever_said_it(tmp_path: Path) -> None:
    terminal = Terminal()
    log = CombinedLog(tmp_path, terminal, as_json=True)
    log("api", '{"time": "t", "level": "info", "message": "ü"}')
    for line in ("plain", '{"broken', "[1]", "{}"):
        log("dashboard", line)
    log.close()
    said = [json.loads(line) for line in terminal.getvalue().splitlines()]
    assert said[0] == {"process": "api", "time": "t", "level": "info", "message": "ü"}
    assert [each.get("message") for each in said[1:]] == ["plain", '{"broken', "[1]", None]
    assert {each["process"] for each in said[1:]} == {"dashboard"}
    assert [json.loads(line)["process"] for line in (tmp_path / "all.log").read_text().splitlines()] == [
        each["process"] for each in said
    ]
    assert (tmp_path / "dashboard.log").read_text().startswith("plain\n")
