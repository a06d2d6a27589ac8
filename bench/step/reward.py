"""The reward of the benchmark: nothing to compute, nothing to learn, and different within nearly every group."""


def parity_reward(text: str) -> float:
    """1 when the response's length in characters is even, else 0.

    A verifier's cost is not what is compared here; what matters is that groups have a gradient on both sides.
    """
    return 1.0 if len(text) % 2 == 0 else 0.0
