"""The transition table, as a graph."""

from hypothesis import given
from hypothesis import strategies as st

from store.status import LEASED, TERMINAL, TRANSITIONS, JobStatus


def reachable(start: JobStatus) -> set[JobStatus]:
    found, open_ = {start}, [start]
    while open_:
        fresh = TRANSITIONS[open_.pop()] - found
        found |= fresh
        open_ += fresh
    return found


def test_every_status_has_its_row() -> None:
    assert set(TRANSITIONS) == set(JobStatus)


def test_exactly_the_last_three_are_final() -> None:
    assert {JobStatus.CANCELLED, JobStatus.SUCCEEDED, JobStatus.FAILED} == TERMINAL


def test_every_status_is_reached_from_queued_and_none_moves_to_itself() -> None:
    assert reachable(JobStatus.QUEUED) == set(JobStatus)
    assert all(status not in onward for status, onward in TRANSITIONS.items())


@given(st.sampled_from([status for status in JobStatus if status not in TERMINAL]))
def test_every_unfinished_job_can_still_be_cancelled(status: JobStatus) -> None:
    assert JobStatus.CANCELLED in reachable(status)


@given(st.lists(st.integers(min_value=0), max_size=30))
def test_a_walk_never_leaves_a_final_status_and_runs_only_by_a_claim(choices: list[int]) -> None:
    status = JobStatus.QUEUED
    for choice in choices:
        onward = sorted(TRANSITIONS[status])
        if not onward:
            assert status in TERMINAL
            break
        previous, status = status, onward[choice % len(onward)]
        # A worker comes to hold a job in one way only: by claiming it from the queue.
        if status in LEASED and previous not in LEASED:
            assert (previous, status) == (JobStatus.QUEUED, JobStatus.RUNNING)
