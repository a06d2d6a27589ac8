"""Micro-batches hold every response once and keep to their budget."""

from hypothesis import given
from hypothesis import strategies as st

from trainer.sequences import Sequences, prompt_batches, whole_batches

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
