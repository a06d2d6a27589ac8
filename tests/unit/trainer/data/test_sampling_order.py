"""The order of the prompts: a pure function of the seed, full steps, and a resume that neither skips nor doubles."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.sampling_order import SamplingOrder, epoch_order


@given(st.integers(1, 300), st.integers(0, 2**63 - 1), st.integers(0, 1000))
def test_an_epoch_is_a_permutation_and_a_pure_function(size, seed, epoch):
    order = epoch_order(size, seed, epoch)
    assert sorted(order) == list(range(size))
    assert order == epoch_order(size, seed, epoch)


def test_the_order_is_the_same_everywhere():
    # Written down once: a change would make every resumed run skip and double prompts.
    assert epoch_order(10, 0, 0) == [8, 9, 0, 3, 7, 4, 1, 5, 2, 6]
    assert epoch_order(10, 0, 1) == [8, 6, 3, 1, 2, 0, 9, 4, 5, 7]
    assert epoch_order(10, 7, 0) == [2, 4, 5, 7, 8, 1, 6, 9, 0, 3]


def test_epochs_and_seeds_differ():
    orders = {tuple(epoch_order(50, seed, epoch)) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


@given(st.integers(1, 40), st.integers(1, 60), st.integers(1, 12))
def test_every_step_is_full_and_every_epoch_whole(size, per_step, steps):
    order = SamplingOrder(size, per_step, seed=3)
    drawn = []
    for _ in range(steps):
        step = order.next_step()
        assert len(step) == per_step
        drawn += step
    assert order.prompts_drawn == len(drawn) == per_step * steps
    assert order.epoch == len(drawn) / size
    for epoch in range(len(drawn) // size):
        assert drawn[epoch * size : (epoch + 1) * size] == epoch_order(size, 3, epoch)
    counts = Counter(drawn)
    assert max(counts.values()) - min(counts[index] for index in range(size)) <= 1


@given(st.integers(1, 40), st.lists(st.integers(0, 50), min_size=1, max_size=10), st.integers(0, 9))
def test_a_resumed_run_draws_what_the_uninterrupted_one_draws(size, takes, stop):
    whole = SamplingOrder(size, 4, seed=1)
    expected = [whole.take(count) for count in takes]
    first = SamplingOrder(size, 4, seed=1)
    drawn = [first.take(count) for count in takes[:stop]]
    state = json.loads(json.dumps(first.state_dict()))
    second = SamplingOrder(size, 4, seed=1)
    second.take(5)  # what it drew before it was told where to go on does not matter
    second.load_state_dict(state)
    drawn += [second.take(count) for count in takes[stop:]]
    assert drawn == expected
    assert second.state_dict() == whole.state_dict()


def test_a_data_set_smaller_than_a_step_is_gone_through_several_times():
    counts = Counter(SamplingOrder(3, 8, seed=0).next_step())
    assert sorted(counts.values()) == [2, 3, 3]


def test_a_state_of_other_data_or_another_seed_is_refused():
    state = SamplingOrder(10, 4, seed=0).state_dict()
    with pytest.raises(ValueError, match="has size 10, this run has 11"):
        SamplingOrder(11, 4, seed=0).load_state_dict(state)
    with pytest.raises(ValueError, match="has seed 0, this run has 1"):
        SamplingOrder(10, 4, seed=1).load_state_dict(state)
    with pytest.raises(ValueError, match="negative"):
        SamplingOrder(10, 4, seed=0).load_state_dict({**state, "prompts_drawn": -1})


@pytest.mark.parametrize(("size", "per_step"), [(0, 4), (10, 0), (-1, 4)])
def test_sizes_must_be_sensible(size, per_step):
    with pytest.raises(ValueError, match="at least 1"):
        SamplingOrder(size, per_step, seed=0)
    with pytest.raises(ValueError, match="negative"):
        SamplingOrder(10, 4, seed=0).take(-1)
