"""The kinds of verifier: where each runs, which options it takes, which function judges.

`numeric` and `exact` run in the calling process: they are linear in the length of the input, which is bounded, so a
subprocess would protect from nothing and cost a hundred times as much. `math` hands model output to sympy, which
anything may happen in, so it runs in subprocesses that can be killed.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from trainer.rewards import exact, numeric


class InProcess(NamedTuple):
    score: Callable[..., bool]
    check: Callable[[str], None]


class Kind(NamedTuple):
    options: frozenset[str]
    in_process: InProcess | None
    """None: in a killable subprocess, see `trainer.rewards.worker`."""


_KINDS = {
    "math": Kind(frozenset(), None),
    "numeric": Kind(frozenset({"tolerance"}), InProcess(numeric.score, numeric.check)),
    "exact": Kind(frozenset({"ignore_case", "normalize_whitespace"}), InProcess(exact.score, exact.check)),
}
KINDS = tuple(_KINDS)


def kind_named(name: str) -> Kind:
    """ValueError for a kind that there is not."""
    if name not in _KINDS:
        raise ValueError(f"unknown verifier {name!r}; one of: {', '.join(KINDS)}")
    return _KINDS[name]


def check_options(name: str, options: Mapping[str, object]) -> None:
    """ValueError for an option that the kind does not take."""
    known = kind_named(name).options
    unknown = sorted(options.keys() - known)
    if unknown:
        listed = ", ".join(sorted(known)) or "none"
        raise ValueError(f"{name} takes no option {', '.join(unknown)}; it takes: {listed}")
    if "tolerance" in options:
        numeric.tolerance_fraction(options["tolerance"])  # type: ignore[arg-type]
