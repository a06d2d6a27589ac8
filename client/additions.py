"""The demo's data: additions as `builtin/tiny-arith` reads them, e.g. {"prompt": "12+34=", "answer": "46"}."""

import json
import random
from collections.abc import Sequence
from pathlib import Path

Row = dict[str, str]


def additions(train: int, evaluation: int, seed: int) -> tuple[list[Row], list[Row]]:
    """`train` and `evaluation` different sums of two numbers from 10 to 99, none in both lists; a seed's own choice."""
    sums = [{"prompt": f"{a}+{b}=", "answer": str(a + b)} for a in range(10, 100) for b in range(10, 100)]
    chosen = random.Random(seed).sample(sums, train + evaluation)  # noqa: S311 (no secret)
    return chosen[:train], chosen[train:]


def write_jsonl(path: Path, rows: Sequence[Row]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path
