"""What differs between the configurations of several runs, field by field."""

from collections.abc import Mapping, Sequence
from typing import Any

ABSENT = "–"

SECTIONS = (
    "name", "backend", "model", "data", "reward", "algorithm", "rollout", "optim", "train", "eval", "checkpoint",
    "preflight", "diagnostics", "resources", "seed",
)  # fmt: skip
"""The sections in the order in which the documentation tells them."""
LEADING = ("name", "id", "preset")


def in_order(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec as one reads it: a database keeps JSON's keys in an order of its own."""
    sections = sorted(spec, key=lambda name: SECTIONS.index(name) if name in SECTIONS else len(SECTIONS))
    return {name: _sorted(spec[name]) for name in sections}


def _sorted(value: Any) -> Any:  # noqa: ANN401 (any JSON value)
    if isinstance(value, list):
        return [_sorted(part) for part in value]
    if not isinstance(value, Mapping):
        return value
    names = sorted(value, key=lambda name: (LEADING.index(name) if name in LEADING else len(LEADING), name))
    return {name: _sorted(value[name]) for name in names}


def flat(spec: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"optim": {"lr": 1}}` -> `{"optim.lr": 1}`; benchmarks (a list of named parts) are told apart by their names."""
    fields: dict[str, Any] = {}
    for name, value in spec.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            fields.update(flat(value, f"{path}."))
        elif isinstance(value, list) and value and all(isinstance(part, Mapping) and "name" in part for part in value):
            for part in value:
                fields.update(flat({k: v for k, v in part.items() if k != "name"}, f"{path}[{part['name']}]."))
        else:
            fields[path] = value
    return fields


def differing(specs: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Field -> its value in each spec as text, for the fields that are not the same in all of them, in spec order.

    A field that a spec does not have is shown as a dash. The runs' names are no configuration.
    """
    flats = [flat(in_order(spec)) for spec in specs]
    paths = dict.fromkeys(path for fields in flats for path in fields if path != "name")
    missing = object()
    found: dict[str, list[str]] = {}
    for path in paths:
        held = [fields.get(path, missing) for fields in flats]
        if any(value != held[0] for value in held[1:]):
            found[path] = [ABSENT if value is missing else as_text(value) for value in held]
    return found


def as_text(value: Any) -> str:  # noqa: ANN401 (any JSON value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(as_text(part) for part in value) if isinstance(value, list) else str(value)
