"""A spec as another version wrote it into a checkpoint. During an upgrade a job may come back to an older worker."""

import copy
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from trainer.spec.job import JobSpec


def spec_of_checkpoint(stored: dict[str, Any]) -> tuple[JobSpec, list[str]]:
    """The spec, and the fields of a newer version (dotted) that were left out of it, since this one has no such thing.

    Only what a run was: what it shall be is never read with anything left out. ValidationError for all else.
    """
    rest = copy.deepcopy(stored)
    left_out: list[str] = []
    while True:
        try:
            return JobSpec.model_validate(rest), sorted(left_out)
        except ValidationError as error:
            unknown = [each["loc"] for each in error.errors() if each["type"] == "extra_forbidden"]
            if len(unknown) < error.error_count():
                raise
            for place in unknown:
                left_out.append(_take_out(rest, place))


def _take_out(stored: Any, place: Sequence[Any]) -> str:  # noqa: ANN401 (any JSON)
    """Delete the key at this place (keys and indices, as pydantic says it): where it was, dotted."""
    path = []
    for part in place[:-1]:
        # A union's branch is named in the place, too, and is in no document.
        if isinstance(stored, list) or part in stored:
            stored = stored[part]
            path.append(str(part))
    del stored[place[-1]]
    return ".".join([*path, str(place[-1])])
