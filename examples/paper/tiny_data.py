"""Additions of two numbers under 100, held out by difficulty: five small benchmarks in the place of the paper's."""

import json
import random
from pathlib import Path

HELD_OUT = 60
"""Problems of each benchmark."""
TRAIN = 4000

Sum = tuple[int, int]


def benchmark_of(a: int, b: int) -> str | None:
    """Which benchmark a sum would belong to; None for those that are in none."""
    if (a < 10) != (b < 10):
        return "one_digit"
    if a < 10:
        return None
    carries = ((a % 10 + b % 10) >= 10, (a + b) >= 100)
    names = {(False, False): "no_carry", (True, False): "carry_ones", (False, True): "carry_tens"}
    return names.get(carries, "two_carries")


def write_tiny_data(folder: Path, seed: int = 0) -> None:
    """`train.jsonl` and a file for each benchmark; no sum, nor its mirror image, is in two of them."""
    sums: dict[str, list[Sum]] = {}
    for a in range(100):
        for b in range(a, 100):
            name = benchmark_of(a, b)
            if name is not None:
                sums.setdefault(name, []).append((a, b))
    generator = random.Random(seed)  # noqa: S311 (no secret)
    rest: list[Sum] = []
    for name, members in sums.items():
        generator.shuffle(members)
        _write(folder / f"{name}.jsonl", [_either_way(pair, generator) for pair in members[:HELD_OUT]])
        rest += members[HELD_OUT:]
    mirrored = sorted({*rest, *((b, a) for a, b in rest)})
    _write(folder / "train.jsonl", generator.sample(mirrored, TRAIN))


def _either_way(pair: Sum, generator: random.Random) -> Sum:
    return pair if generator.random() < 0.5 else (pair[1], pair[0])


def _write(path: Path, sums: list[Sum]) -> None:
    path.write_text("".join(json.dumps({"prompt": f"{a}+{b}=", "answer": str(a + b)}) + "\n" for a, b in sums))
