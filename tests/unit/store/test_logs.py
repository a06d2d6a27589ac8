"""Logs as JSON: one object a line, about what it is about, and nothing that was not meant for it."""

import json
import logging
import subprocess
import sys

import pytest

from store import logs


@pytest.fixture
def say():
    """say(level, message, ...): the object that is written."""
    formatter = logs.JsonLines()

    def said(level, message, *arguments, error=None, extra=None):
        information = None if error is None else (type(error), error, error.__traceback__)
        record = logging.getLogger("here").makeRecord(
            "here", level, __file__, 1, message, arguments, information, extra=extra
        )
        line = formatter.format(record)
        assert "\n" not in line
        return json.loads(line)

    return said


def test_a_line_is_an_object_with_what_is_known(say):
    with logs.bound(job="job_1", attempt=2):
        inside = say(logging.WARNING, "%s\nof %d", "one", 2)
    assert inside | {"time": ""} == {
        "time": "", "level": "warning", "logger": "here", "message": "one\nof 2", "job": "job_1", "attempt": 2,
    }  # fmt: skip
    assert inside["time"].endswith("+00:00")
    assert "job" not in say(logging.INFO, "outside")


def test_an_exception_is_text_and_extras_are_left_out(say):
    try:
        raise ValueError("broken")
    except ValueError as error:
        said = say(logging.ERROR, "x", error=error, extra={"password": "canary"})
    assert said["exception"].startswith("Traceback")
    assert said["exception"].endswith("ValueError: broken")
    assert "canary" not in json.dumps(said)


def test_a_thread_speaks_of_what_its_maker_does():
    found = []
    with logs.bound(job="job_1"):
        thread = logs.thread(lambda: found.append(logs.about("job")), name="t")
    thread.start()
    thread.join()
    assert found == ["job_1"]


@pytest.mark.parametrize("form", ["json", "text"])
def test_what_a_process_writes(form):
    code = f"""
import logging, threading, warnings
from store import logs
logs.set_up({form!r})
logging.getLogger("a").info("told %s", "you")
warnings.warn("careful")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
raise SystemError("at last")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    if form == "text":
        assert " INFO a: told you\n" in done.stderr
        return
    said = [json.loads(line) for line in done.stderr.splitlines()]
    assert [each["logger"] for each in said] == ["a", "py.warnings", "uncaught", "uncaught"]
    assert "ZeroDivisionError" in said[2]["exception"]
    assert "at last" in said[3]["exception"]
