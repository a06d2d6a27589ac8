"""Products of bfloat16 values are those of float32, and the process's setting comes back."""

import pytest
import torch

from trainer.bfloat16_products import bfloat16_products

CPU = torch.device("cpu")


def precision() -> str:
    return torch.backends.mkldnn.matmul.fp32_precision


def test_rounded_operands_lose_nothing():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(shape, generator=generator).bfloat16().float() for shape in ((65, 300), (300, 129)))
    exact = a.double() @ b.double()
    with bfloat16_products(CPU):
        product = a @ b
    assert (product - exact).abs().max() < 2 * (a @ b - exact).abs().max() + 1e-5
    assert product.dtype == torch.float32


def test_the_setting_is_put_back():
    before = precision()

    def fail() -> None:
        with bfloat16_products(CPU):
            assert precision() == "bf16"
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert precision() == before
    with bfloat16_products(torch.device("meta")):
        assert precision() == before
