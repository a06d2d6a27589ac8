"""The doorbell reaches every Celery worker that listens, and a broker that is away is no error."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from kombu.exceptions import OperationalError

from store import doorbell

ROOT = Path(__file__).parents[3]


@pytest.fixture
def listen(broker_url, tmp_path):
    """listen(name): a worker process -> a function that tells how many rings it has heard."""
    started = []

    def start(name):
        file = tmp_path / name
        script = Path(__file__).with_name("listening_worker.py")
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        started.append(subprocess.Popen([sys.executable, str(script), broker_url, str(file)], env=environment))
        return lambda: len(file.read_text().splitlines()) if file.exists() else 0

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_every_listener_hears_every_ring(broker_url, listen, wait_until):
    listeners = [listen("one"), listen("two")]

    def all_listen():
        assert doorbell.ring(broker_url) is True
        return all(heard() for heard in listeners)

    wait_until(all_listen, seconds=60, poll=0.2)  # a ring before one listens is lost, as it may be
    before = [heard() for heard in listeners]
    assert doorbell.ring(broker_url) is True
    wait_until(lambda: all(heard() > earlier for heard, earlier in zip(listeners, before, strict=True)))


def test_a_ring_that_nobody_hears_is_no_error(broker_url):
    assert doorbell.ring(broker_url) is True
    doorbell.ping(broker_url)


@pytest.mark.parametrize("where", ["socket", "tcp"])
def test_a_broker_that_is_away_is_told_and_no_error(tmp_path, free_port, caplog, where):
    url = f"redis+socket://{tmp_path}/none.sock" if where == "socket" else f"redis://127.0.0.1:{free_port()}/0"
    with caplog.at_level(logging.WARNING):
        assert doorbell.ring(url) is False
    assert "doorbell" in caplog.text
    with pytest.raises((OSError, OperationalError)):
        doorbell.ping(url)
