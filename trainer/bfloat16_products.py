"""Products of bfloat16 values with float32 sums, at the speed of bfloat16, on a CPU.

torch multiplies two bfloat16 matrices into a float32 one on CUDA only. On a CPU oneDNN can: asked for a float32 product
in "bf16" precision, it rounds the operands to bfloat16 and sums in float32. Operands that hold nothing but bfloat16
values lose nothing by that, and the product runs on AMX where there is one (5 to 20 times as fast).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def bfloat16_products(device: torch.device) -> Iterator[None]:
    """Within it float32 products of CPU tensors round their operands to bfloat16; nothing changes for other devices.

    Only for operands that are rounded already. The setting is the process's: no other thread may multiply meanwhile.
    """
    if device.type != "cpu":
        yield
        return
    matmul: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before
