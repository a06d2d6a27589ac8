"""Which of a job's metrics somebody wants."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Selection:
    """Whole keys, and beginnings (`ent/*`). Neither: all."""

    exact: Sequence[str] = ()
    prefixes: Sequence[str] = ()

    @classmethod
    def parse(cls, keys: str | None) -> Self:
        """From a comma list, e.g. `reward/mean,ent/*`."""
        names = dict.fromkeys(part for name in (keys or "").split(",") if (part := name.strip()))
        return cls(
            exact=tuple(name for name in names if not name.endswith("*")),
            prefixes=tuple(name.removesuffix("*") for name in names if name.endswith("*")),
        )

    @property
    def everything(self) -> bool:
        return not self.exact and not self.prefixes

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and (self.everything or key in self.exact or key.startswith(tuple(self.prefixes)))
