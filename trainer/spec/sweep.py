"""A sweep: one job spec, and which of its fields take which values. Expanding it gives the specs of its members.

A plan is deterministic: the same one has the same members in the same order, on every machine.
"""

import json
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, ValidationError, model_validator

from trainer.spec.base import Real, SpecPart
from trainer.spec.changes import with_changes
from trainer.spec.job import JobSpec, Name

MAX_MEMBERS = 500
Path = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)*$", max_length=200)]
"""A field of the job spec: `algorithm.beta_pos`."""
Scalar = None | bool | int | float | str
Values = Annotated[list[Scalar], Field(min_length=1, max_length=MAX_MEMBERS)]


class Range(SpecPart):
    """Numbers between two ends, both included."""

    low: Real
    """The least number that may be drawn."""
    high: Real
    """The greatest one."""
    scale: Literal["linear", "log"] = "linear"
    """log: as many between 1 and 10 as between 10 and 100."""
    integer: bool = False
    """Draw whole numbers only."""

    @model_validator(mode="after")
    def _ends_are_in_order(self) -> Self:
        if not self.low < self.high:
            raise ValueError("low must lie below high")
        if self.scale == "log" and self.low <= 0:
            raise ValueError("on a log scale low must be above 0")
        if self.integer and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError("the ends of whole numbers are whole numbers")
        return self

    def draw(self, random: random.Random) -> float | int:
        """Real numbers have four significant digits, so that a member's spec can be read and typed."""
        if self.scale == "log":
            drawn = math.exp(random.uniform(math.log(self.low), math.log(self.high)))
        else:
            drawn = random.uniform(self.low, self.high)
        inside = min(max(float(f"{drawn:.4g}"), self.low), self.high)
        return round(inside) if self.integer else inside


class GridSearch(SpecPart):
    """Every combination of the values."""

    kind: Literal["grid"]
    parameters: dict[Path, Values] = Field(min_length=1, max_length=8)
    """The values that each field takes, by its path: `algorithm.beta_pos: [0.0, 0.9]`."""

    def points(self) -> Iterator[dict[str, Scalar]]:
        for values in product(*self.parameters.values()):
            yield dict(zip(self.parameters, values, strict=True))

    def paths(self) -> list[set[str]]:
        return [set(self.parameters)]

    def __len__(self) -> int:
        return math.prod(len(values) for values in self.parameters.values())


class RandomSearch(SpecPart):
    """So many combinations, each value drawn by itself."""

    kind: Literal["random"]
    parameters: dict[Path, Values | Range] = Field(min_length=1, max_length=32)
    """What each field is drawn from, by its path: some values, each as likely as another, or a range of numbers."""
    samples: Annotated[int, Field(ge=1, le=MAX_MEMBERS)]
    """How many combinations are drawn; equal ones are run once."""
    seed: int = 0
    """Of the draws; the runs' seeds are the sweep's `seeds`."""

    def points(self) -> Iterator[dict[str, Scalar]]:
        source = random.Random(self.seed)  # noqa: S311 - nothing secret is drawn
        for _ in range(self.samples):
            yield {
                path: values.draw(source) if isinstance(values, Range) else source.choice(values)
                for path, values in self.parameters.items()
            }

    def paths(self) -> list[set[str]]:
        return [set(self.parameters)]

    def __len__(self) -> int:
        return self.samples


class ListedPoints(SpecPart):
    """These combinations."""

    kind: Literal["list"]
    points_: list[dict[Path, Scalar]] = Field(alias="points", min_length=1, max_length=MAX_MEMBERS)
    """Each a value for each of its fields, by path; a field that it does not name is as `base` has it."""

    def points(self) -> Iterator[dict[str, Scalar]]:
        yield from self.points_

    def paths(self) -> list[set[str]]:
        return [set(point) for point in self.points_]

    def __len__(self) -> int:
        return len(self.points_)


class MedianRule(SpecPart):
    """Ends members that do worse than most did so far (the median stopping rule of Google Vizier, section 3.2.2)."""

    rule: Literal["median"] = "median"
    """The one rule there is."""
    after_steps: Annotated[int, Field(ge=1)] = 20
    """No member is ended before it has done so many steps."""
    least_members: Annotated[int, Field(ge=2)] = 4
    """Nor before so many others have come as far."""


class Budget(SpecPart):
    """What all members together may use; then those that have not ended are cancelled, with their last checkpoints."""

    hours: Annotated[Real, Field(gt=0, le=1_000_000)]
    """Of GPUs, two at once counting twice; for a job without one, of its running."""


OWN = ("name", "seed")
"""Fields of a job spec that a sweep gives its members itself."""


class SweepSpec(SpecPart):
    """Many jobs of one plan."""

    name: Name
    """The members carry it as the tag `sweep:NAME`."""
    base: dict[str, Any]
    """The job spec that all members have in common. Its name is the members' beginning; its seed is each one's own."""
    search: Annotated[GridSearch | RandomSearch | ListedPoints, Field(discriminator="kind")]
    """Which fields take which values; `base` has the others."""
    seeds: list[int] = Field(default=[0], min_length=1, max_length=100)
    """Every combination is run with each of them."""
    metric: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_./-]{1,200}$")] = "group/accuracy"
    """What members are compared by."""
    goal: Literal["max", "min"] = "max"
    """Whether a high or a low value of the metric is the better one."""
    early_stopping: MedianRule | None = None
    """When hopeless members are ended; null: never."""
    budget: Budget | None = None
    """What the members may use together; null: what the team's limits leave."""

    @model_validator(mode="after")
    def _paths_are_apart(self) -> Self:
        for path in sorted(set().union(*self.search.paths())):
            if path in OWN:
                raise ValueError(f"{path} is each member's own" + ("; name `seeds` instead" if path == "seed" else ""))
        for paths in self.search.paths():
            for path in paths:
                if (within := next((other for other in paths if path.startswith(f"{other}.")), None)) is not None:
                    raise ValueError(f"{path} lies within {within}: name one of them")
        return self

    @model_validator(mode="after")
    def _is_not_too_large(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: each of them once")
        members = len(self.search) * len(self.seeds)
        if members > MAX_MEMBERS:
            raise ValueError(
                f"{len(self.search)} combinations with {len(self.seeds)} seeds are {members} jobs; "
                f"a sweep has at most {MAX_MEMBERS}: take fewer values, or draw some of them (search.kind random)"
            )
        return self


@dataclass(frozen=True)
class Member:
    """One job of a sweep."""

    point: dict[str, Scalar]
    """What it has of its own, by path."""
    seed: int
    job: JobSpec


class SweepError(ValueError):
    """A plan some of whose members are no jobs. `errors`: as of ValidationError.errors(), places within the sweep."""

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__(f"{len(errors)} errors")
        self.errors = errors


def members(sweep: SweepSpec) -> list[Member]:
    """The jobs of a sweep, combination by combination, seed by seed. SweepError names the field or the path at fault.

    Two equal combinations are one: drawn whole numbers, and lists, may repeat themselves.
    """
    found: list[Member] = []
    errors: dict[str, dict[str, Any]] = {}
    for point in _different(sweep.search.points()):
        changed = with_changes(sweep.base, _nested(point))
        try:
            # The seed is an integer whatever it is, so one of them is checked for all.
            jobs = [JobSpec.model_validate(_named(sweep, changed, point, seed)) for seed in sweep.seeds]
        except ValidationError as invalid:
            for error in invalid.errors(include_url=False, include_context=False):
                placed = _placed(error, sweep, point)
                errors.setdefault(json.dumps([placed["loc"], placed["msg"]], default=str), placed)
        else:
            found += [Member(point, seed, job) for seed, job in zip(sweep.seeds, jobs, strict=True)]
    if errors:
        raise SweepError(list(errors.values()))
    return found


def _different(points: Iterator[dict[str, Scalar]]) -> Iterator[dict[str, Scalar]]:
    seen: set[str] = set()
    for point in points:
        written = json.dumps(point, sort_keys=True)
        if written not in seen:
            seen.add(written)
            yield point


def _nested(point: Mapping[str, Scalar]) -> dict[str, Any]:
    """`{"optim.lr": 1e-5}` as `{"optim": {"lr": 1e-5}}`. A null takes the field back to its default."""
    nested: dict[str, Any] = {}
    for path, value in point.items():
        *sections, field = path.split(".")
        here = nested
        for section in sections:
            here = here.setdefault(section, {})
        here[field] = value
    return nested


def _named(sweep: SweepSpec, spec: Mapping[str, Any], point: Mapping[str, Scalar], seed: int) -> dict[str, Any]:
    """With a name that tells what is the member's own; the whole of it, were it too long, is in the sweep."""
    words = [f"{path.rpartition('.')[2]}{_written(value)}" for path, value in point.items()]
    if len(sweep.seeds) > 1:
        words.append(f"seed{seed}")
    label = "-".join(str(part) for part in (spec.get("name") or sweep.name, *words))
    clean = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_.-") else "-" for letter in label)
    return {**spec, "name": clean[:64], "seed": seed}


def _written(value: Scalar) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _placed(error: Mapping[str, Any], sweep: SweepSpec, point: dict[str, Scalar]) -> dict[str, Any]:
    """The error where it was made: at the path that brought the value, else in the base."""
    of_search: tuple[str | int, ...] = ("search", "parameters")
    if isinstance(sweep.search, ListedPoints):
        of_search = ("search", "points", sweep.search.points_.index(point))
    loc = [str(part) for part in error["loc"]]
    for path in point:
        parts = path.split(".")
        shorter = min(len(parts), len(loc))
        if loc[:shorter] == parts[:shorter] and loc:
            value = json.dumps(point[path])
            said = "there is no such field" if error["type"] == "extra_forbidden" else error["msg"]
            return {**error, "loc": (*of_search, path), "type": "value_error", "msg": f"{value}: {said}"}
    return {**error, "loc": ("base", *error["loc"])}
