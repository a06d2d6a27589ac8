"""The `reward` section: which verifier judges, with which options, and the bonuses that never change its verdict.

A kind is a family, for some with a name behind a colon. Each family has a small model of its options; a row of the
data may bring a kind and options of its own, within `ROW_FAMILIES`.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from trainer.spec.base import Real, SpecPart
from trainer.spec.pattern import compile_pattern

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def _re2(pattern: str) -> str:
    compile_pattern(pattern)
    return pattern


RE2Pattern = Annotated[str, StringConstraints(min_length=1), AfterValidator(_re2)]


class NoOptions(SpecPart):
    """The kind has nothing to set."""


class NumericOptions(SpecPart):
    tolerance: Annotated[Real, Field(ge=0)] = 0.0
    """Right is within tolerance * max(1, |answer|)."""


class ExactOptions(SpecPart):
    match: Literal["equal", "contain", "differ"] = "equal"
    """The response is the answer; holds it; is anything else."""
    ignore_case: bool = False
    normalize_whitespace: bool = True


class RegexOptions(SpecPart):
    pattern: RE2Pattern | None = None
    """Its last match in the response (group 1 if it has one) must equal the answer. None: the answer is the pattern."""
    ignore_case: bool = False
    full_match: bool = False
    """The whole response must match, not a part of it."""


class ChoiceOptions(SpecPart):
    choices: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2,26}$")] = "ABCDE"

    @field_validator("choices")
    @classmethod
    def _letters_differ(cls, choices: str) -> str:
        if len(set(choices)) < len(choices):
            raise ValueError("must not name a letter twice")
        return choices


class SimilarityOptions(SpecPart):
    metric: Literal["fuzzy_match", "rouge_1", "rouge_2", "rouge_3", "rouge_4", "rouge_5", "rouge_l"] = "fuzzy_match"
    """fuzzy_match: by characters in common order; rouge_N: F1 of runs of N words; rouge_l: of words in common order."""
    threshold: Annotated[Real, Field(gt=0, le=1)] = 0.8
    """Right is at least so similar, of 1."""


class HttpOptions(SpecPart):
    batch_size: Annotated[int, Field(ge=1, le=1024)] = 64
    """Items in one request."""
    retries: Annotated[int, Field(ge=0, le=10)] = 3
    """How often a request is sent again when the endpoint is away, too slow, or answers 429 or 5xx."""


class PluginOptions(SpecPart):
    """Whatever the plugin takes; it gets them as keyword arguments."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, JsonValue]

    @model_validator(mode="after")
    def _are_arguments(self) -> Self:
        wrong = [name for name in self.__pydantic_extra__ if not name.isidentifier() or name == "metadata"]
        if wrong:
            raise ValueError(f"cannot be an argument of a plugin: {', '.join(wrong)}")
        return self


class PythonOptions(SpecPart):
    code: Annotated[str, StringConstraints(min_length=1, max_length=100_000)]
    """Holds `def score(response, answer, metadata): ...`, which returns a number from 0 to 1."""


class LengthBonus(SpecPart):
    """DAPO's soft overlong punishment (arXiv 2503.14476, equation 13), times `weight`."""

    kind: Literal["length"]
    weight: Annotated[Real, Field(gt=0)]
    """How much is taken off at most."""
    start: Annotated[int, Field(ge=0)]
    """Response tokens up to which it is 0; from there it falls linearly ..."""
    end: Annotated[int, Field(ge=1)] | None = None
    """... to -weight at so many, and stays there. None: rollout.max_new_tokens."""


class FormatBonus(SpecPart):
    """+weight for a response in which the pattern is found; a negative weight makes it a penalty."""

    kind: Literal["format"]
    weight: Real
    """Added where the pattern is found."""
    pattern: RE2Pattern
    """RE2."""


Bonus = Annotated[LengthBonus | FormatBonus, Field(discriminator="kind")]


_FAMILIES: dict[str, type[SpecPart]] = {
    "math": NoOptions,
    "numeric": NumericOptions,
    "exact": ExactOptions,
    "regex": RegexOptions,
    "choice": ChoiceOptions,
    "similarity": SimilarityOptions,
    "reasoning_gym": NoOptions,
    "http": HttpOptions,
    "plugin": PluginOptions,
    "python": PythonOptions,
}
_NAMED = {"reasoning_gym": "TASK", "http": "NAME", "plugin": "NAME"}
"""Families that need a name, and what the name is called."""
FAMILIES = tuple(_FAMILIES)
ROW_FAMILIES = ("math", "numeric", "exact", "regex", "choice", "reasoning_gym")
"""What a row of the data may name: a verifier that comes with this package. The others are the spec's to choose."""
GRADED_FAMILIES = frozenset({"reasoning_gym", "http", "plugin", "python"})
"""Those whose rewards may lie between 0 and 1."""
ROW_OPTION_NAMES = frozenset(name for family in ROW_FAMILIES for name in _FAMILIES[family].model_fields)


class Kind(NamedTuple):
    """A kind taken apart: `http:judge` is ("http", "judge"), `math` is ("math", "")."""

    family: str
    name: str


def kind_form(family: str) -> str:
    """How a family is written: `math`, `http:NAME`."""
    return f"{family}:{_NAMED[family]}" if family in _NAMED else family


def parse_kind(text: str, families: tuple[str, ...] = FAMILIES) -> Kind:
    """Take a kind apart. ValueError, with those there are, for anything but one of `families`."""
    family, colon, name = text.partition(":")
    if family in families and (_NAME.fullmatch(name) if family in _NAMED else not colon):
        return Kind(family, name)
    shown = text if len(text) <= 60 else text[:57] + "..."
    raise ValueError(f"unknown verifier {shown!r}; one of: {', '.join(map(kind_form, families))}")


def options_of(family: str) -> type[SpecPart]:
    """The model of a family's options."""
    return _FAMILIES[family]


def option_names(kind: str) -> tuple[str, ...]:
    return tuple(_FAMILIES[parse_kind(kind).family].model_fields)


def resolve_options(kind: str, given: Mapping[str, object]) -> dict[str, JsonValue]:
    """The options of a kind with its defaults filled in. pydantic.ValidationError that names each wrong option."""
    return _FAMILIES[parse_kind(kind).family].model_validate(dict(given)).model_dump(mode="json")


def row_verifier(
    job_kind: str,
    job_options: Mapping[str, object],
    row_kind: str | None,
    row_options: Mapping[str, object] | None,
) -> tuple[str, dict[str, JsonValue]]:
    """Kind and options that a row is judged with: its own, laid over the job's where the kind is the job's.

    ValueError that says what is wrong with the row's.
    """
    kind = row_kind or job_kind
    given = row_options or {}
    if given and parse_kind(kind).family not in ROW_FAMILIES:
        raise ValueError(f"options: the spec alone sets those of {kind}")
    options = {**job_options, **given} if kind == job_kind else given
    try:
        return kind, resolve_options(kind, options)
    except ValidationError as error:
        raise ValueError("; ".join(option_problems(error))) from None


def option_problems(error: ValidationError) -> list[str]:
    """`options.tolerance: Input should be ...`, one per wrong option."""
    return [
        f"{'.'.join(map(str, ('options', *each['loc'])))}: "
        + ("unknown option" if each["type"] == "extra_forbidden" else each["msg"].removeprefix("Value error, "))
        for each in error.errors()
    ]


def _known_kind(kind: str) -> str:
    parse_kind(kind)
    return kind


class RewardSpec(SpecPart):
    kind: Annotated[
        str, AfterValidator(_known_kind), Field(description=f"One of: {', '.join(map(kind_form, FAMILIES))}")
    ]
    timeout_seconds: Annotated[Real, Field(gt=0, le=60)] = 5.0
    """Wall-clock limit for one verification; past it the verifier is killed and the reward is 0."""
    options: dict[str, JsonValue] = Field(default={})
    """Those of the kind, with its defaults filled in."""
    bonus: list[Bonus] = Field(default=[])
    """Shift the advantage within a group; the reward, and what is called correct, they never touch."""

    @field_validator("options", mode="before")
    @classmethod
    def _options_of_the_kind(cls, given: object, info: ValidationInfo) -> object:
        # Without a kind that is right there is nothing to hold them against. The errors keep their own places.
        if "kind" not in info.data or not isinstance(given, dict):
            return given
        return resolve_options(info.data["kind"], given)

    @property
    def family(self) -> str:
        return parse_kind(self.kind).family

    @property
    def is_graded(self) -> bool:
        """Whether its rewards may lie between 0 and 1."""
        return self.family in GRADED_FAMILIES
