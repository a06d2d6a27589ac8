"""The instrument of `./dev bench dashboard`: what it takes for one refresh, and the runs it makes."""

import random

from bench.api.contents import KEYS
from bench.dashboard import browser, contents
from bench.dashboard.driver import parse_arguments


def test_what_follows_a_request_belongs_to_it_until_all_is_quiet(monkeypatch):
    now = iter([1.0, 1.05, 1.08, 1.1, 3.0, 3.2])
    monkeypatch.setattr(browser.time, "perf_counter", lambda: next(now))
    visit = browser.Visit(page=None)
    visit.sent(b"ask")
    visit.received(b"12345")
    visit.sent(b"acknowledge")
    visit.received("123")
    visit.sent(b"ask")
    visit.received(b"1")
    first, second = visit.exchanges
    assert (round(first.seconds, 3), first.received) == (0.1, 8)
    assert (round(second.seconds, 3), second.received) == (0.2, 1)
    assert browser.Watched(3.0, visit.exchanges, 0.0).bytes_per_second == 3.0


def test_a_step_is_said_with_every_metric():
    assert set(contents.said(7, random.Random(0)).metrics) == set(KEYS)


def test_by_default_it_is_what_the_aims_are_for():
    arguments = parse_arguments([])
    assert (arguments.runs, arguments.steps) == (20, 100_000)
    assert len(KEYS) >= 50
