"""The instrument of `./dev bench api`: its statistics, what it says of steps, when its requests are due."""

import asyncio
import itertools
import time

import pytest

from bench.api import contents, watchers
from bench.api.driver import parse_arguments
from bench.api.timing import Line, Times, times_of
from trainer.spec.metric_keys import METRICS


def test_median_p99_and_rate():
    times = Times([number / 1000 for number in range(1, 101)])
    assert times.median == pytest.approx(0.0505)
    assert times.p99 == 0.1
    assert times.rate == pytest.approx(100 / 5.05)
    assert Times([0.5]).p99 == 0.5


def test_an_aim_is_said_to_be_reached_or_not():
    assert str(Line("fast", Times([0.010]), aim=0.020)).endswith("yes")
    assert str(Line("slow", Times([0.030]), aim=0.020)).endswith("NO")


def test_each_number_is_done_once_in_order():
    done = []
    assert len(times_of(done.append, 3).seconds) == 3
    assert done == [0, 1, 2]


def test_steps_are_said_as_a_trainer_says_them():
    steps = list(contents.steps_said(5, 200))
    assert [step.step for step in steps] == list(range(5, 205))
    known = {metric.template for metric in METRICS}
    assert all(set(step.metrics) == set(contents.KEYS) <= known for step in steps)
    kinds = {type(value) for step in steps for value in step.metrics.values()}
    assert kinds == {int, float, type(None)}


def test_requests_are_due_by_the_clock_whatever_became_of_those_before():
    schedule = watchers._schedule([("/a", "k1"), ("/b", "k2")], seconds=2, rate=10)
    assert [path for _, path, _ in schedule] == ["/a", "/b"] * 10
    gaps = [later[0] - earlier[0] for earlier, later in itertools.pairwise(schedule)]
    assert gaps == pytest.approx([0.1] * 19)


def test_a_requests_time_counts_from_when_it_was_due():
    async def scenario():
        async def answer(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n{}")
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            return await watchers._sent_at(port, time.perf_counter() - 5, "/jobs", "key")

    assert asyncio.run(scenario()) >= 5


def test_all_parts_are_measured_unless_some_are_named():
    assert len(parse_arguments([]).parts) == 5
    assert parse_arguments(["--parts", "read", "--api-env", "A=b=c"]).api_env == [("A", "b=c")]
