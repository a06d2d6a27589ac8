"""From one row per step to one column per key, thinned out: the form in which charts want metrics."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy.orm import Session

from api.metrics.downsampling import Value, keep
from store import job_history
from store.access import Identity
from store.job_history import MetricRow


@dataclass
class Series:
    step: list[int] = field(default_factory=list)
    value: list[Value] = field(default_factory=list)


@dataclass(frozen=True)
class Wanted:
    """Which keys a request asks for: whole ones, and beginnings (`ent/*`). Neither: all."""

    exact: Sequence[str]
    prefixes: Sequence[str]

    @classmethod
    def parse(cls, keys: str | None) -> "Wanted":
        """From a comma list, e.g. `reward/mean,ent/*`."""
        names = list(dict.fromkeys(part for name in (keys or "").split(",") if (part := name.strip())))
        return cls(
            exact=[name for name in names if not name.endswith("*")],
            prefixes=[name.removesuffix("*") for name in names if name.endswith("*")],
        )

    @property
    def everything(self) -> bool:
        return not self.exact and not self.prefixes

    def __contains__(self, key: str) -> bool:
        return self.everything or key in self.exact or any(key.startswith(prefix) for prefix in self.prefixes)


def read(
    session: Session,
    identity: Identity,
    job_id: str,
    wanted: Wanted,
    max_points: int,
    from_step: int | None = None,
    to_step: int | None = None,
) -> dict[str, Series]:
    """The job's series, sorted by key. A whole key that was never measured is there, without points."""
    # Only beginnings need the names of all keys; otherwise the database sends just what is wanted.
    only = list(wanted.exact) if wanted.exact and not wanted.prefixes else None
    rows = job_history.metrics(session, identity, job_id, only, from_step, to_step)
    series = columns(rows, wanted)
    return {key: _thinned(series[key], max_points) for key in sorted(series)}


def columns(rows: Iterable[MetricRow], wanted: Wanted) -> dict[str, Series]:
    """One series per key, with a point per step at which the key was measured; null where it was undefined."""
    series: dict[str, Series] = {key: Series() for key in wanted.exact}
    for row in rows:
        for key, value in row.values.items():
            if key in series or key in wanted:
                points = series.setdefault(key, Series())
                points.step.append(row.step)
                points.value.append(value)
    return series


def _thinned(series: Series, max_points: int) -> Series:
    kept = keep(series.value, max_points)
    return Series([series.step[index] for index in kept], [series.value[index] for index in kept])
