"""./dev bench machine: what this machine can do at most, as torch reaches it: matrix products and memory.

The shapes are those of SmolLM2-135M: a training pass over 1,300 tokens, a decoding step of 32 rollouts, its head.
"""

import argparse
import time
from collections.abc import Callable, Sequence

import torch

from bench.step.machine_state import cores, describe

SHAPES = {
    "large square": (2048, 2048, 2048),
    "training, mlp": (1300, 576, 1536),
    "training, attention": (1300, 576, 576),
    "training, head": (512, 576, 49152),
    "decoding, mlp": (32, 576, 1536),
    "decoding, head": (32, 576, 49152),
}
"""Rows, inner size and columns of a product."""


def best_seconds(work: Callable[[], object], synchronize: Callable[[], None], seconds: float = 0.5) -> float:
    """The shortest time of one call, out of as many as `seconds` hold, three at least: others can only lengthen it."""
    work()
    synchronize()
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < until:
        started = time.perf_counter()
        work()
        synchronize()
        times.append(time.perf_counter() - started)
    return min(times)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="./dev bench machine", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=cores())
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    synchronize: Callable[[], None] = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    machine = describe()
    print(
        f"{machine['cpu']}, {machine['cores']} cores ({machine['instructions']}), {arguments.threads} threads; {device}"
    )
    print(f"\n{'GFLOP/s':22}{'[n, k] x [k, m]':>22}{'float32':>10}{'bfloat16':>10}")
    for name, (n, k, m) in SHAPES.items():
        rates = []
        for dtype in (torch.float32, torch.bfloat16):
            # As a linear layer multiplies: by a weight of [out, in].
            a, b = torch.randn(n, k, device=device).to(dtype), torch.randn(m, k, device=device).to(dtype)
            seconds = best_seconds(lambda a=a, b=b: torch.nn.functional.linear(a, b), synchronize)  # type: ignore[misc]
            rates.append(2 * n * k * m / seconds / 1e9)
        print(f"{name:22}{f'{n} x {k} x {m}':>22}{rates[0]:10.0f}{rates[1]:10.0f}")

    size = 2**28
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    copy = best_seconds(lambda: target.copy_(source), synchronize)
    read = best_seconds(lambda: source.sum(), synchronize)
    half = source.to(torch.bfloat16)
    cast = best_seconds(lambda: half.copy_(source), synchronize)
    print(f"\nmemory, 256 MiB: read {size / read / 1e9:.1f} GB/s, copied {2 * size / copy / 1e9:.1f} GB/s (both ways)")
    print(f"float32 to bfloat16: {1.5 * size / cast / 1e9:.1f} GB/s (both ways)")
    return 0
