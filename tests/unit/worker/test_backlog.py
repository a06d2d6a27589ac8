import threading
import time

import pytest

from worker import backlog
from worker.backlog import Backlog

DEADLINE = 10


def said(batch):
    return [item.said for item in batch]


def test_batches_keep_the_order_and_the_bounds(monkeypatch):
    monkeypatch.setattr(backlog, "BATCH_ITEMS", 3)
    monkeypatch.setattr(backlog, "BATCH_BYTES", 100)
    queue = Backlog()
    for name, size in (("a", 1), ("b", 1), ("c", 1), ("d", 90), ("e", 90), ("f", 500), ("g", 1)):
        queue.put(name, size)
    queue.close()
    assert [said(queue.take()) for _ in range(5)] == [["a", "b", "c"], ["d"], ["e"], ["f"], ["g"]]
    assert queue.take() == []


def test_a_batch_waits_for_more_but_not_for_ever(monkeypatch):
    monkeypatch.setattr(backlog, "BATCH_SECONDS", 0.05)
    queue = Backlog()
    queue.put("only", 4)
    assert said(queue.take()) == ["only"]


def test_the_end_is_not_waited_for():
    queue = Backlog()
    queue.put("last", 4)
    queue.close()
    before = time.monotonic()
    assert said(queue.take()) == ["last"]
    assert time.monotonic() - before < backlog.BATCH_SECONDS / 2


@pytest.mark.parametrize("bound", ["MAX_ITEMS", "MAX_BYTES"])
def test_a_full_backlog_makes_the_reader_wait(monkeypatch, bound):
    monkeypatch.setattr(backlog, bound, 2)
    queue = Backlog()
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


def test_something_larger_than_the_whole_bound_goes_in_alone(monkeypatch):
    monkeypatch.setattr(backlog, "MAX_BYTES", 10)
    queue = Backlog()
    assert queue.put("huge", 1000)
    queue.close()
    assert said(queue.take()) == ["huge"]


def test_abandoning_lets_everyone_go(monkeypatch):
    monkeypatch.setattr(backlog, "MAX_ITEMS", 1)
    queue = Backlog()
    queue.put("a", 1)
    answers = []
    blocked = threading.Thread(target=lambda: answers.append(queue.put("b", 1)))
    blocked.start()
    queue.abandon()
    blocked.join(DEADLINE)
    assert answers == [False]
    assert queue.take() == []
