import threading
import time

import pytest

from worker import backlog
from worker.backlog import Backlog
from worker.spool import Spool

DEADLINE = 10


def said(batch):
    return [item.said for item in batch]


def test_batches_keep_the_order_and_the_bounds(monkeypatch, tmp_path):
    monkeypatch.setattr(backlog, "BATCH_ITEMS", 3)
    monkeypatch.setattr(backlog, "BATCH_BYTES", 100)
    queue = Backlog(Spool(tmp_path, 0))
    for name, size in (("a", 1), ("b", 1), ("c", 1), ("d", 90), ("e", 90), ("f", 500), ("g", 1)):
        queue.put(name, size)
    queue.close()
    assert [said(queue.take()) for _ in range(5)] == [["a", "b", "c"], ["d"], ["e"], ["f"], ["g"]]
    assert queue.take() == []


def test_a_batch_waits_for_more_but_not_for_ever(monkeypatch, tmp_path):
    monkeypatch.setattr(backlog, "BATCH_SECONDS", 0.05)
    queue = Backlog(Spool(tmp_path, 0))
    queue.put("only", 4)
    assert said(queue.take()) == ["only"]


def test_the_end_is_not_waited_for(tmp_path):
    queue = Backlog(Spool(tmp_path, 0))
    queue.put("last", 4)
    queue.close()
    before = time.monotonic()
    assert said(queue.take()) == ["last"]
    assert time.monotonic() - before < backlog.BATCH_SECONDS / 2


@pytest.mark.parametrize("bound", ["MAX_ITEMS", "MAX_BYTES"])
def test_a_full_backlog_makes_the_reader_wait(monkeypatch, tmp_path, bound):
    monkeypatch.setattr(backlog, bound, 2)
    queue = Backlog(Spool(tmp_path, 0))
    queue.put("a", 1)
    queue.put("b", 1)
    third = threading.Thread(target=queue.put, args=("c", 1))
    third.start()
    third.join(0.1)
    assert third.is_alive()
    assert said(queue.take()) == ["a", "b"]
    third.join(DEADLINE)
    assert not third.is_alive()
    queue.close()
    assert said(queue.take()) == ["c"]


def test_something_larger_than_the_whole_bound_goes_in_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(backlog, "MAX_BYTES", 10)
    queue = Backlog(Spool(tmp_path, 0))
    assert queue.put("huge", 1000)
    queue.close()
    assert said(queue.take()) == ["huge"]


def test_abandoning_lets_everyone_go(monkeypatch, tmp_path):
    monkeypatch.setattr(backlog, "MAX_ITEMS", 1)
    queue = Backlog(Spool(tmp_path, 0))
    queue.put("a", 1)
    answers = []
    blocked = threading.Thread(target=lambda: answers.append(queue.put("b", 1)))
    blocked.start()
    queue.abandon()
    blocked.join(DEADLINE)
    assert answers == [False]
    assert queue.take() == []


def test_while_the_database_is_away_what_finds_no_room_is_spooled_in_order(monkeypatch, tmp_path):
    monkeypatch.setattr(backlog, "MAX_ITEMS", 2)
    monkeypatch.setattr(backlog, "BATCH_ITEMS", 3)
    queue = Backlog(Spool(tmp_path, 1 << 20))
    queue.spool(True)
    names = [f"line {number}" for number in range(10)]
    for name in names:
        queue.put(name, len(name))  # waits for nobody
    queue.spool(False)
    # What comes now waits until the spool is empty, or it would overtake.
    late = threading.Thread(target=queue.put, args=("late", 4))
    late.start()
    taken = []
    while len(taken) < len(names):
        taken += said(queue.take())
    late.join(DEADLINE)
    queue.close()
    assert taken + said(queue.take()) == [*names, "late"]
    assert list(tmp_path.iterdir()) == []


def test_a_full_spool_makes_the_reader_wait(monkeypatch, tmp_path):
    monkeypatch.setattr(backlog, "MAX_ITEMS", 1)
    queue = Backlog(Spool(tmp_path, 40))
    queue.spool(True)
    for name in ("a", "b"):
        queue.put(name, 1)
    third = threading.Thread(target=queue.put, args=("c" * 40, 40))
    third.start()
    third.join(0.1)
    assert third.is_alive()
    taken = []
    while len(taken) < 3:
        taken += said(queue.take())
    third.join(DEADLINE)
    assert taken == ["a", "b", "c" * 40]
