"""Which random numbers a rollout draws: a seed for each, a function of (seed, prompt index, sample index) alone."""

import hashlib


def request_seed(seed: tuple[int, ...], prompt_index: int, sample_index: int) -> int:
    """63 bits, as vLLM's `SamplingParams.seed` takes them."""
    # Hashed as text, lengths and all: (1, 2) with prompt 3 is not (1,) with prompt 2.
    text = f"{','.join(str(int(part)) for part in seed)}|{prompt_index}|{sample_index}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1
