"""Micro-batches hold every response once and keep to their budget."""

from hypothesis import given
from hypothesis import strategies as st

from trainer.sequences import (
    Sequences,
    batches_in_step,
    prompt_batches,
    prompt_batches_in_step,
    shares,
    whole_batches,
)

A, B, C = [1, 1, 1, 1, 1], [2, 2, 2], [3, 3, 3, 3, 3, 3, 3]
SEQUENCES = Sequences([A, B, A, C, A, B], [[1, 1], [1], [1, 1, 1, 1], [], [1, 1, 1], [1]])


def test_whole_sequences():
    assert list(whole_batches(SEQUENCES, 1)) == [[2], [4], [0], [1], [5]]
    assert list(whole_batches(SEQUENCES, 18)) == [[2, 4], [0, 1], [5]]
    assert list(whole_batches(SEQUENCES, 1000)) == [[2, 4, 0, 1, 5]]


def test_prompts_with_their_responses():
    (batch,) = prompt_batches(SEQUENCES, 1000)
    assert batch.prompts == [tuple(A), tuple(B)]  # C has no response
    assert batch.row == {0: 0, 2: 0, 4: 0, 1: 1, 5: 1}
    assert batch.micro_batches == [[2, 4, 0, 1, 5]]
    first, second = prompt_batches(SEQUENCES, 20)
    assert (first.prompts, first.micro_batches) == ([tuple(A)], [[2, 4, 0]])
    assert (second.prompts, second.micro_batches) == ([tuple(B)], [[1, 5]])
    tight = list(prompt_batches(SEQUENCES, 1))
    assert [batch.micro_batches for batch in tight] == [[[2], [4], [0]], [[1], [5]]]


@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 12)), max_size=30),
    st.integers(1, 200),
)
def test_every_response_once_within_the_budget(drawn: list[tuple[int, int]], max_tokens: int):
    sequences = Sequences([[prompt] * prompt for prompt, _ in drawn], [[0] * length for _, length in drawn])
    wanted = [i for i, (_, length) in enumerate(drawn) if length]
    whole = list(whole_batches(sequences, max_tokens))
    assert sorted(i for batch in whole for i in batch) == wanted
    for batch in whole:
        assert len(batch) == 1 or len(batch) * max(sum(drawn[i]) for i in batch) <= max_tokens
    shared = list(prompt_batches(sequences, max_tokens))
    assert sorted(i for batch in shared for part in batch.micro_batches for i in part) == wanted
    assert len({prompt for batch in shared for prompt in batch.prompts}) == sum(len(b.prompts) for b in shared)
    for batch in shared:
        prompts = len(batch.prompts) * max(map(len, batch.prompts))
        for part in batch.micro_batches:
            assert all(batch.prompts[batch.row[i]] == tuple(sequences.prompts[i]) for i in part)
            assert len(part) == 1 or prompts + len(part) * max(drawn[i][1] for i in part) <= max_tokens


def test_shares_keep_prompts_together_and_even_out_tokens():
    a, b, c, d = [1], [2, 2], [3], [4]
    sequences = Sequences([a, b, a, c, d, b], [[5] * length for length in (3, 9, 1, 2, 4, 1)])
    # b has 12 tokens, a 5, d 5, c 3.
    assert shares(sequences, 2) == [[1, 5], [0, 2, 3, 4]]
    assert shares(sequences, 1) == [[0, 1, 2, 3, 4, 5]]
    assert shares(sequences, 5) == [[1, 5], [0, 2], [4], [3], []]


def test_ranks_with_different_shares_make_the_same_number_of_passes():
    sequences = Sequences([[1], [1], [1], [2], [3, 3]], [[5, 5], [6, 6], [7, 7], [8], [9, 9]])
    ranks = [sequences.select([0, 1, 2]), sequences.select([3, 4]), sequences.select([])]
    plans = [list(prompt_batches(each, 4)) for each in ranks]
    together = [prompt_batches_in_step([plan, *plans[:place], *plans[place + 1 :]]) for place, plan in enumerate(plans)]
    assert len({tuple(len(batch.micro_batches) for batch in plan) for plan in together}) == 1
    for own, filled in zip(plans, together, strict=True):
        assert [each for batch in own for each in batch.micro_batches] == [
            each for batch in filled for each in batch.micro_batches if each
        ]
    whole = [list(whole_batches(each, 3)) for each in ranks]
    assert batches_in_step([whole[2], whole[0], whole[1]]) == [[], [], []]
    assert batches_in_step([whole[0], whole[1], whole[2]]) == whole[0]
