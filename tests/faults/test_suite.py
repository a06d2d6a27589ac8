"""A short, seeded part of the fault suite. The whole of it: `./dev test-faults`."""

import pytest

from tests.faults.suite.__main__ import report, run, schedule
from tests.faults.suite.kinds import KINDS

SEED = 20
LEFT_OUT = {
    *("trainer killed at step", "trainer segfault", "trainer out of memory", "checkpoint file short"),
    *("worker killed at prepared", "worker killed at recorded", "worker killed at settled"),
    *("postgres killed", "postgres hangs for a moment", "disk full at the model", "poison: killed", "poison: hangs"),
    *("trainer killed at load", "trainer killed at rollout"),
    *("checkpoint short", "postgres crashed", "disk full at the start", "pause at any moment", "poison: out of memory"),
}
"""Much like others: each way of injecting a fault stays, at one of its points."""


def ways(kinds):
    """The functions that inject them."""
    return {getattr(KINDS[kind], "func", KINDS[kind]) for kind in kinds}


@pytest.mark.timeout(900)
def test_no_promise_is_broken_by_any_of_the_faults(tmp_path):
    assert set(KINDS) > LEFT_OUT
    assert ways(set(KINDS) - LEFT_OUT) == ways(KINDS)
    kinds = [kind for kind in schedule(len(KINDS), SEED) if kind not in LEFT_OUT]
    runner = run(tmp_path, kinds, SEED, again="pytest tests/faults/test_suite.py")
    print(report(runner, 0))
    # A kind that meets nothing five times in a row was not injected; with most of them that would be no test.
    assert sum(runner.injected.values()) >= len(kinds) - 4


def test_the_same_seed_gives_the_same_schedule_and_each_kind_before_any_comes_again():
    assert schedule(100, 3) == schedule(100, 3)
    assert schedule(100, 3) != schedule(100, 4)
    assert sorted(schedule(len(KINDS), 5)) == sorted(KINDS)
    assert schedule(3, 6, only="broker") != []
