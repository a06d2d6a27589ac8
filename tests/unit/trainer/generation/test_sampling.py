"""Random streams that belong to one rollout, and tokens drawn by inverting the cumulative distribution."""

import pytest
import torch

from trainer.engines.sampling import sample, uniforms


def test_a_stream_is_a_function_of_seed_and_rollout() -> None:
    streams = uniforms((3, 5), [(0, 0), (0, 1), (1, 0), (70000, 4095)], 50)
    assert streams.dtype == torch.float64
    assert streams.shape == (4, 50)
    assert ((streams >= 0) & (streams < 1)).all()
    assert len(streams.unique()) == 200  # No number shared.
    assert torch.equal(uniforms((3, 5), [(1, 0)], 50)[0], streams[2])
    assert torch.equal(uniforms((3, 5), [(0, 1)], 7)[0], streams[1, :7])
    assert not torch.equal(uniforms((5, 3), [(0, 0)], 50)[0], streams[0])
    for other in ((3, 5, 0), (3, 5, 1), (3 + 5 * 2**32,), (35,)):
        assert not torch.equal(uniforms(other, [(0, 0)], 50)[0], streams[0])


def test_the_streams_are_pinned() -> None:
    # A change here would change every seeded run; resumed ones would no longer continue as they began.
    assert uniforms((0, 1), [(2, 3)], 2)[0].tolist() == [0.827234997206458, 0.9319194585601113]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_come_as_often_as_their_probability_says(temperature: float) -> None:
    logits = torch.tensor([1.0, -2.0, 0.0, 3.0, float("-inf"), 0.5])
    count = 20000
    even = (torch.arange(count, dtype=torch.float64) + 0.5) / count  # Every quantile once: no luck involved.
    tokens, logprobs = sample(logits.expand(count, -1), temperature, even)
    expected = torch.softmax(logits.double() / temperature, dim=-1)
    shares = torch.bincount(tokens, minlength=6) / count
    torch.testing.assert_close(shares.double(), expected, rtol=0, atol=2 / count)
    torch.testing.assert_close(logprobs.double(), expected.log()[tokens], rtol=0, atol=1e-5)


def test_tokens_without_probability_are_never_drawn_at_the_edges() -> None:
    logits = torch.tensor([[float("-inf"), 0.0, 0.0, float("-inf")]])
    lowest, highest = torch.tensor([0.0], dtype=torch.float64), torch.tensor([1 - 2**-53], dtype=torch.float64)
    assert sample(logits, 1.0, lowest)[0].item() == 1
    assert sample(logits, 1.0, highest)[0].item() == 2


def test_a_tail_below_float32_resolution_is_still_reached() -> None:
    logits = torch.tensor([[20.0, 0.0]])  # The second token has probability 2.06e-9.
    token, logprob = sample(logits, 1.0, torch.tensor([1 - 1e-9], dtype=torch.float64))
    assert token.item() == 1
    assert logprob.item() == pytest.approx(-20.0, abs=1e-5)


def test_temperature_zero_takes_the_likeliest() -> None:
    tokens, logprobs = sample(torch.tensor([[0.0, 2.0, 1.0]]), 0, torch.tensor([0.99], dtype=torch.float64))
    assert tokens.item() == 1
    assert logprobs.item() == 0.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("temperature", [0, 1.0])
def test_logits_that_are_no_numbers_are_an_error(bad: float, temperature: float) -> None:
    with pytest.raises(FloatingPointError, match="diverged"):
        sample(torch.tensor([[0.0, bad]]), temperature, torch.tensor([0.5], dtype=torch.float64))
