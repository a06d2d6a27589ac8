"""The tiled log-probs and entropies against a dense float64 reference, with gradients, and their memory bound."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from trainer import logprobs
from trainer.logprobs import tile_for, token_logprobs_and_entropy

Statistics = Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]


def dense(hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The same by its definition, with all logits at once, in the dtype of the inputs up to the logits."""
    logits = hidden @ weight.t()
    all_logp = torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature, -1)
    return all_logp.gather(1, targets[:, None])[:, 0], -(all_logp.exp() * all_logp).sum(-1)


def example(tokens: int = 37, vocab: int = 501, width: int = 24, dtype: torch.dtype = torch.float32, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(tokens, width, generator=generator, dtype=torch.float64)
    weight = torch.randn(vocab, width, generator=generator, dtype=torch.float64) * 0.5
    targets = torch.randint(vocab, (tokens,), generator=generator)
    return hidden.to(dtype), weight.to(dtype), targets


def gradients(statistics: Statistics, hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float, part: str):
    """Gradients of a randomly weighted sum of the log-probs, the entropies or both."""
    generator = torch.Generator().manual_seed(1)
    factors = torch.randn(2, len(hidden), generator=generator)
    h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    outputs = statistics(h, w, targets, temperature)
    chosen = {"logp": [0], "entropy": [1], "both": [0, 1]}[part]
    sum((outputs[i] * factors[i].to(outputs[i].dtype)).sum() for i in chosen).backward()
    return h.grad, w.grad


def relative_error(value: Tensor, reference: Tensor) -> float:
    return ((value.double() - reference.double()).norm() / reference.double().norm()).item()


@pytest.fixture(params=[64, 1000, 2**20], ids=lambda n: f"tile{n}")
def tile_elements(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(logprobs, "TILE_ELEMENTS_CPU", request.param)
    return request.param


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
class TestAgainstDenseFloat64:
    def test_values(self, temperature: float, tile_elements: int) -> None:
        hidden, weight, targets = example()
        reference = dense(hidden.double(), weight.double(), targets, temperature)
        for value, expected in zip(
            token_logprobs_and_entropy(hidden, weight, targets, temperature), reference, strict=True
        ):
            assert value.dtype == torch.float32
            torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)
            assert relative_error(value, expected) < 1e-6

    @pytest.mark.parametrize("part", ["logp", "entropy", "both"])
    def test_gradients(self, temperature: float, part: str, tile_elements: int) -> None:
        hidden, weight, targets = example()
        reference = gradients(dense, hidden.double(), weight.double(), targets, temperature, part)
        result = gradients(token_logprobs_and_entropy, hidden, weight, targets, temperature, part)
        for value, expected in zip(result, reference, strict=True):
            assert value.dtype == torch.float32
            assert relative_error(value, expected) < 1e-5
            torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())

    def test_float64_stays_float64(self, temperature: float, tile_elements: int) -> None:
        inputs = example(dtype=torch.float64)
        for value, expected in zip(
            token_logprobs_and_entropy(*inputs, temperature), dense(*inputs, temperature), strict=True
        ):
            assert value.dtype == torch.float64
            torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
        for value, expected in zip(
            gradients(token_logprobs_and_entropy, *inputs, temperature, "both"),
            gradients(dense, *inputs, temperature, "both"),
            strict=True,
        ):
            torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-12)


def test_gradcheck(tile_elements: int) -> None:
    hidden, weight, targets = example(5, 23, 4, torch.float64)
    assert torch.autograd.gradcheck(
        lambda h, w: token_logprobs_and_entropy(h, w, targets, 0.7),
        (hidden.requires_grad_(), weight.requires_grad_()),
    )


@pytest.mark.parametrize("frozen", ["hidden", "weight"])
def test_only_one_input_is_trained(frozen: str) -> None:
    hidden, weight, targets = example()
    reference = gradients(token_logprobs_and_entropy, hidden, weight, targets, 1.0, "both")
    hidden.requires_grad_(frozen != "hidden")
    weight.requires_grad_(frozen != "weight")
    factors = torch.randn(2, len(hidden), generator=torch.Generator().manual_seed(1))
    logp, entropy = token_logprobs_and_entropy(hidden, weight, targets, 1.0)
    (logp @ factors[0] + entropy @ factors[1]).backward()
    for tensor, expected in zip((hidden, weight), reference, strict=True):
        assert tensor.grad is None or torch.equal(tensor.grad, expected)
    assert (hidden.grad is None) == (frozen == "hidden")
    assert (weight.grad is None) == (frozen == "weight")


def test_peaked_and_flat_distributions() -> None:
    """Certain tokens, uniform ones and logits far from 0: no cancellation, and never a wrong sign."""
    vocab = 300
    logits = torch.zeros(4, vocab)
    logits[0, 5] = 1000.0
    logits[1] = 3e4
    logits[2, :2] = 40.0
    logits[3] = torch.linspace(-5e3, 5e3, vocab)
    targets = torch.tensor([5, 9, 1, 299])
    logp, entropy = token_logprobs_and_entropy(logits, torch.eye(vocab), targets, 1.0)
    reference = dense(logits.double(), torch.eye(vocab).double(), targets, 1.0)
    torch.testing.assert_close(logp.double(), reference[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(entropy.double(), reference[1], rtol=1e-5, atol=1e-6)
    assert (logp <= 0).all()
    assert (entropy >= 0).all()
    assert logp[0] == 0


def test_temperature_is_applied_to_the_logits() -> None:
    hidden, weight, targets = example(dtype=torch.float64)
    warm = token_logprobs_and_entropy(hidden, weight, targets, 2.0)
    scaled = token_logprobs_and_entropy(hidden / 2, weight, targets, 1.0)
    for a, b in zip(warm, scaled, strict=True):
        torch.testing.assert_close(a, b)
    assert warm[1].mean() > token_logprobs_and_entropy(hidden, weight, targets, 1.0)[1].mean() + 0.1


def test_a_nan_stays_in_its_row() -> None:
    hidden, weight, targets = example()
    clean = token_logprobs_and_entropy(hidden, weight, targets, 1.0)
    hidden[3] = float("nan")
    for values, expected in zip(token_logprobs_and_entropy(hidden, weight, targets, 1.0), clean, strict=True):
        assert values.isnan().tolist() == [row == 3 for row in range(len(hidden))]
        assert torch.equal(values[4:], expected[4:])


def test_no_tokens() -> None:
    hidden, weight, targets = example(tokens=0)
    logp, entropy = token_logprobs_and_entropy(hidden, weight.requires_grad_(), targets, 1.0)
    assert logp.shape == entropy.shape == (0,)
    (logp.sum() + entropy.sum()).backward()
    assert not weight.grad.any()


class LargestTensor(TorchDispatchMode):
    """Records the most elements that any operation's result has."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor):
                self.numel = max(self.numel, tensor.numel())
        return result


class TestMemory:
    tokens, vocab, width = 700, 6000, 8

    def largest(self, statistics: Statistics, backward: bool) -> int:
        hidden, weight, targets = example(self.tokens, self.vocab, self.width)
        hidden.requires_grad_()
        weight.requires_grad_()
        with LargestTensor() as largest:
            logp, entropy = statistics(hidden, weight, targets, 0.8)
            if backward:
                (logp.sum() + entropy.sum()).backward()
        return largest.numel

    @pytest.mark.parametrize("backward", [False, True])
    def test_nothing_is_larger_than_a_tile_or_an_input(self, backward: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        elements = 30_000
        monkeypatch.setattr(logprobs, "TILE_ELEMENTS_CPU", elements)
        inputs = self.width * max(self.tokens, self.vocab)
        # A tile and its scratch are made as one buffer.
        assert self.largest(token_logprobs_and_entropy, backward) <= max(2 * elements, inputs)
        assert self.largest(dense, backward) == self.tokens * self.vocab

    def test_values_alone_keep_nothing_for_backward(self) -> None:
        hidden, weight, targets = example()
        with torch.no_grad():
            logp, entropy = token_logprobs_and_entropy(hidden, weight.requires_grad_(), targets, 1.0)
        assert logp.grad_fn is None
        assert entropy.grad_fn is None

    def test_backward_keeps_a_few_numbers_per_token(self) -> None:
        hidden, weight, targets = example(self.tokens, self.vocab, self.width)
        saved: list[Tensor] = []

        def pack(tensor: Tensor) -> Tensor:
            saved.append(tensor)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            token_logprobs_and_entropy(hidden.requires_grad_(), weight.requires_grad_(), targets, 1.0)
        own = {hidden.data_ptr(), weight.data_ptr(), targets.data_ptr()}
        extra = [tensor for tensor in saved if tensor.data_ptr() not in own]
        assert extra
        assert sum(tensor.numel() for tensor in extra) <= 4 * self.tokens

    @pytest.mark.parametrize("tokens", [1, 3, 700, 10**6])
    @pytest.mark.parametrize("vocab", [2, 49152, 151_936])
    @pytest.mark.parametrize("elements", [1, 1000, 2**20, 2**26])
    def test_tiles_keep_to_their_size(self, tokens: int, vocab: int, elements: int) -> None:
        tile = tile_for(tokens, vocab, elements)
        assert 1 <= tile.tokens <= tokens
        assert 1 <= tile.vocab <= vocab
        assert tile.tokens * tile.vocab <= elements
        # And do not waste it: the work is done in few products.
        assert tile.tokens * tile.vocab >= min(elements // 4, tokens * vocab)


class TestBfloat16:
    def test_values_are_those_of_the_rounded_inputs_in_float32(self) -> None:
        hidden, weight, targets = example(dtype=torch.bfloat16)
        reference = dense(hidden.double(), weight.double(), targets, 1.0)
        for value, expected in zip(token_logprobs_and_entropy(hidden, weight, targets, 1.0), reference, strict=True):
            assert value.dtype == torch.float32
            torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-5)

    def test_a_float32_weight_is_rounded_as_autocast_does_and_gets_a_float32_gradient(self) -> None:
        hidden, weight, targets = example()
        hidden = hidden.bfloat16()
        rounded = token_logprobs_and_entropy(hidden, weight.bfloat16(), targets, 1.0)
        mixed = token_logprobs_and_entropy(hidden, weight, targets, 1.0)
        for a, b in zip(mixed, rounded, strict=True):
            assert torch.equal(a, b)
        _, gradient = gradients(token_logprobs_and_entropy, hidden, weight, targets, 1.0, "both")
        reference = gradients(dense, hidden.double(), weight.bfloat16().double(), targets, 1.0, "both")[1]
        assert gradient.dtype == torch.float32
        assert relative_error(gradient, reference) < 1e-5

    def test_autocast_changes_nothing(self) -> None:
        hidden, weight, targets = example()
        plain = gradients(token_logprobs_and_entropy, hidden, weight, targets, 1.0, "both")
        with torch.autocast("cpu", torch.bfloat16):
            under = gradients(token_logprobs_and_entropy, hidden, weight, targets, 1.0, "both")
        for a, b in zip(under, plain, strict=True):
            assert torch.equal(a, b)

    @pytest.mark.parametrize("part", ["logp", "entropy", "both"])
    def test_gradients_are_no_more_biased_than_with_full_bfloat16_logits(
        self, part: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Bias: the part of the error along the true gradient, which many steps would add up; and the error's size."""
        monkeypatch.setattr(logprobs, "TILE_ELEMENTS_CPU", 2000)
        ours, theirs = [], []
        for seed in range(8):
            inputs = example(64, 1500, 48, torch.bfloat16, seed)
            exact = gradients(dense, inputs[0].double(), inputs[1].double(), inputs[2], 1.0, part)
            tiled = gradients(token_logprobs_and_entropy, *inputs, 1.0, part)
            full = gradients(dense, *inputs, 1.0, part)
            for result, errors in ((tiled, ours), (full, theirs)):
                assert all(gradient.dtype == torch.bfloat16 for gradient in result)
                errors.append(
                    [
                        (
                            ((value.double() - true) * true).sum().item() / true.square().sum().item(),
                            relative_error(value, true),
                        )
                        for value, true in zip(result, exact, strict=True)
                    ]
                )
        own, full_logits = torch.tensor(ours), torch.tensor(theirs)
        bias, full_bias = own[..., 0].mean(0).abs(), full_logits[..., 0].mean(0).abs()
        # Within the noise of 8 draws of the rounding.
        noise = full_logits[..., 0].std(0)
        assert (bias <= full_bias + noise).all(), (bias, full_bias, noise)
        assert (own[..., 1].mean(0) <= full_logits[..., 1].mean(0)).all()
        # One rounding at the very end is all there is.
        assert (own[..., 1] < 2**-8).all()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda h, w, y: (h[:, 1:], w, y, 1.0), "share D"),
        (lambda h, w, y: (h[0], w, y, 1.0), "share D"),
        (lambda h, w, y: (h, w, y[1:], 1.0), "targets must be"),
        (lambda h, w, y: (h, w, y.float(), 1.0), "int64 or int32"),
        (lambda h, w, y: (h.long(), w, y, 1.0), "floating-point"),
        (lambda h, w, y: (h, w, y, 0.0), "temperature"),
        (lambda h, w, y: (h, w, y, float("nan")), "temperature"),
        (lambda h, w, y: (h, w, y.fill_(-100), 1.0), r"targets must lie in \[0, 501\)"),
        (lambda h, w, y: (h, w, y.fill_(501), 1.0), r"targets must lie in \[0, 501\)"),
    ],
)
def test_bad_input_is_named(change: Callable[[Tensor, Tensor, Tensor], tuple], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        token_logprobs_and_entropy(*change(*example()))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU: products of bfloat16 with float32 sums")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("elements", [30_000, 2**26])
def test_on_a_gpu(dtype: torch.dtype, elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logprobs, "TILE_ELEMENTS_GPU", elements)
    hidden, weight, targets = (tensor.cuda() for tensor in example(300, 5000, 64, dtype))
    # A float32 weight under a bfloat16 pass, as in training.
    weight = weight.float()
    reference = dense(hidden.double(), weight.double(), targets, 0.8)
    for value, expected in zip(token_logprobs_and_entropy(hidden, weight, targets, 0.8), reference, strict=True):
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-5)

    def on_gpu(statistics: Statistics, h: Tensor, w: Tensor) -> list[Tensor]:
        h, w = h.clone().requires_grad_(), w.clone().requires_grad_()
        logp, entropy = statistics(h, w, targets, 0.8)
        (logp.mean() + entropy.mean()).backward()
        return [h.grad, w.grad]

    exact = on_gpu(dense, hidden.double(), weight.double())
    result = on_gpu(token_logprobs_and_entropy, hidden, weight)
    assert relative_error(result[0], exact[0]) < (2**-8 if dtype == torch.bfloat16 else 1e-5)
    # The weight's gradient is float32, and bfloat16 operands leave 16 bits of it.
    assert relative_error(result[1], exact[1]) < 5e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_head_s_gradient_is_added_to_the_one_that_is_there(dtype: torch.dtype):
    torch.manual_seed(0)
    hidden, targets = torch.randn(7, 16).to(dtype), torch.arange(7)
    weight = torch.randn(40, 16).requires_grad_()
    gradients = []
    for _ in range(3):
        logp, entropy = token_logprobs_and_entropy(hidden, weight, targets, 0.9, add_to_grad=True)
        (logp + 0.3 * entropy).sum().backward()
        assert weight.grad is not None
        gradients.append(weight.grad.clone())
    torch.testing.assert_close(gradients[2], 3 * gradients[0])
    (alone,) = torch.autograd.grad(token_logprobs_and_entropy(hidden, weight, targets, 0.9)[0].sum(), weight)
    torch.testing.assert_close(weight.grad, gradients[2])  # not asked to, it leaves the gradient alone
    assert alone.abs().sum() > 0
