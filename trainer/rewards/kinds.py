"""The kinds of verifier: where each runs and which function judges. Their options are `trainer.spec.reward`'s.

What is linear in the length of the input, which is bounded, runs in the calling process: a subprocess would protect
from nothing and cost a hundred times as much. `math` hands model output to sympy, which anything may happen in, so it
runs in subprocesses that can be killed.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from pydantic import JsonValue, ValidationError

from trainer.rewards import choice, exact, numeric, regex, similarity
from trainer.spec.reward import FAMILIES, kind_form, option_names, option_problems, parse_kind, resolve_options

KINDS = tuple(map(kind_form, FAMILIES))


class InProcess(NamedTuple):
    score: Callable[..., bool]
    """(response, answer, **options)"""
    check: Callable[..., None]
    """(answer, **options)"""


_IN_PROCESS = {
    "numeric": InProcess(numeric.score, lambda answer, **_options: numeric.check(answer)),
    "exact": InProcess(exact.score, lambda answer, **_options: exact.check(answer)),
    "regex": InProcess(regex.score, regex.check),
    "choice": InProcess(choice.score, choice.check),
    "similarity": InProcess(similarity.score, similarity.check),
}


def in_process(kind: str) -> InProcess | None:
    """The functions of a kind that runs in this process; None for the others. ValueError for an unknown kind."""
    return _IN_PROCESS.get(parse_kind(kind).family)


def checked_options(kind: str, given: Mapping[str, object]) -> dict[str, JsonValue]:
    """The options of a kind with its defaults. ValueError that names each one that is wrong."""
    try:
        return resolve_options(kind, given)
    except ValidationError as error:
        known = ", ".join(sorted(option_names(kind))) or "none"
        unknown = sorted(str(each["loc"][0]) for each in error.errors() if each["type"] == "extra_forbidden")
        if unknown:
            raise ValueError(f"{kind} takes no option {', '.join(unknown)}; it takes: {known}") from None
        raise ValueError(f"{kind}: {'; '.join(option_problems(error))}") from None
