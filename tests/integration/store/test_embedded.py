"""`python -m store.embedded`: one line when both answer, nothing left behind, and back again whatever was killed."""

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import psutil
import psycopg
import pytest
import redis

from store import doorbell

ROOT = Path(__file__).parents[3]


class Embedded:
    """One run of the command."""

    def __init__(self, home):
        self.home = home
        self.process = subprocess.Popen(
            [sys.executable, "-m", "store.embedded", "--home", str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self.line = self.process.stdout.readline()
        self.urls = json.loads(self.line) if self.line else {}
        # Recorded while they live: afterwards nothing tells whose they were.
        self.family = psutil.Process(self.process.pid).children(recursive=True) if self.line else []

    def postgres(self):
        return psycopg.connect(self.urls["database_url"], autocommit=True, connect_timeout=5)

    def valkey(self):
        path = unquote(self.urls["broker_url"].removeprefix("redis+socket://"))
        return redis.Redis(unix_socket_path=path, socket_timeout=5, decode_responses=True)

    def answers(self):
        try:
            with self.postgres() as connection, self.valkey() as client:
                return connection.execute("SELECT 1").fetchone() == (1,) and client.ping()
        except (psycopg.OperationalError, redis.ConnectionError, redis.TimeoutError):
            return False

    def server(self, name):
        """The process of that server which is the supervisor's own child."""
        return next(
            (child for child in psutil.Process(self.process.pid).children() if name in child.name()),
            None,
        )

    def left(self):
        return [process for process in self.family if alive(process)]

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(60)


def alive(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def start(tmp_path):
    """start(home=tmp_path / "servers"): ended with the test."""
    started = []

    def make(home=tmp_path / "servers"):
        started.append(Embedded(home))
        return started[-1]

    yield make
    for embedded in started:
        embedded.close()


def test_one_line_one_at_a_time_and_nothing_left_after_sigterm(start):
    first = start()
    assert set(first.urls) == {"database_url", "broker_url"}
    assert first.answers()
    assert first.server("postgres")
    assert first.server("valkey")

    second = start()
    assert second.line == ""
    assert second.process.wait(30) == 3
    assert first.answers(), "it must not have disturbed the first"

    first.process.send_signal(signal.SIGTERM)
    assert first.process.wait(60) == 0
    assert first.process.stdout.read() == "", "one line and no more"
    assert first.left() == []


def test_the_end_of_stdin_ends_it(start, wait_until):
    embedded = start()
    with embedded.postgres():  # a client that is connected holds nobody up
        embedded.process.stdin.close()
        assert embedded.process.wait(60) == 0
    assert embedded.left() == []


def test_a_killed_one_leaves_no_server_and_the_next_one_has_the_data(start, wait_until):
    first = start()
    with first.postgres() as connection, first.valkey() as client:
        connection.execute("CREATE TABLE kept (n int)")
        connection.execute("INSERT INTO kept SELECT generate_series(1, 1000)")
        client.set("kept", "yes")
    first.process.kill()
    first.process.wait()
    wait_until(lambda: first.left() == [], seconds=15)
    second = start()
    assert second.urls == first.urls
    with second.postgres() as connection, second.valkey() as client:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (1000,)
        assert client.get("kept") == "yes"


def test_a_start_right_after_a_kill_waits_for_what_is_left(start):
    first = start()
    first.process.kill()
    second = start()
    assert second.urls == first.urls
    assert second.answers()
    assert first.left() == []


def test_a_killed_server_comes_back_at_the_same_address(start, wait_until):
    embedded = start()
    with embedded.postgres() as connection, embedded.valkey() as client:
        connection.execute("CREATE TABLE kept (n int)")
        client.set("kept", "yes")
    for name in ("postgres", "valkey", "postgres"):
        before = embedded.server(name)
        before.kill()
        wait_until(lambda name=name, before=before: embedded.server(name) not in (None, before), seconds=60)
        wait_until(embedded.answers, seconds=60)
    with embedded.postgres() as connection, embedded.valkey() as client:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
        assert client.get("kept") == "yes"
    assert embedded.process.poll() is None
    assert doorbell.ring(embedded.urls["broker_url"])


def test_a_home_with_a_long_and_odd_name(start, tmp_path):
    home = tmp_path / ("a long, ho me %41 " + "x" * 110)
    embedded = start(home)
    assert embedded.answers()
    doorbell.ping(embedded.urls["broker_url"])
    embedded.process.send_signal(signal.SIGINT)
    assert embedded.process.wait(60) == 0
    sockets = Path(unquote(embedded.urls["broker_url"].removeprefix("redis+socket://"))).parent
    assert not sockets.is_relative_to(home)
    (sockets / "postgres").rmdir()
    sockets.rmdir()  # which also shows that nothing else lies there


def test_a_short_home_with_a_space_in_its_name(start, tmp_path):
    embedded = start(tmp_path / "s p%41")
    assert embedded.answers()
    doorbell.ping(embedded.urls["broker_url"])


def test_other_users_can_read_nothing(start, tmp_path):
    home = tmp_path / "open"
    home.mkdir(mode=0o755)
    home.chmod(0o755)  # whatever the umask
    embedded = start(home)
    assert embedded.answers()
    reachable, looked_at = [home], 0
    while reachable:
        for entry in os.scandir(reachable.pop()):
            mode = entry.stat(follow_symlinks=False).st_mode
            looked_at += 1
            assert stat.S_IMODE(mode) & 0o077 == 0, f"{entry.path} is open to others: {mode:o}"
    assert looked_at >= 5
    made = start(tmp_path / "made")
    assert stat.S_IMODE(made.home.stat().st_mode) == 0o700
