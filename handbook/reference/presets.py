"""The named algorithms, each with what it sets and what it comes to."""

from handbook.reference.tables import code, table
from trainer.spec.algorithm import AlgorithmSpec
from trainer.spec.presets import PRESETS

_INTRODUCTION = """# Presets

`algorithm: {preset: NAME}` sets the fields in its row; each may be given beside it and goes before the preset's. All
other fields of [`algorithm`](spec.md#algorithmspec) have their defaults. `GET /presets` gives the same. What the
numbers mean: [concepts](../concepts.md).

"""


def page() -> str:
    rows = [
        [f"`{name}`", ", ".join(f"`{field}: {_written(value)}`" for field, value in fields.items()), _rewards(name)]
        for name, fields in PRESETS.items()
    ]
    return (
        _INTRODUCTION
        + table(["preset", "sets", "rewards"], rows)
        + f"\nThe default is {code(AlgorithmSpec().preset)}.\n"
    )


def _written(value: object) -> object:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else value


def _rewards(name: str) -> str:
    binary = AlgorithmSpec(preset=name).needs_binary_rewards
    return "0 and 1, or `success_threshold`" if binary else "any"
