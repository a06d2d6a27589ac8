"""Changes to a spec as one types them: `algorithm.beta_neg=0.2`."""

from collections.abc import Sequence
from typing import Any

import yaml

from client.spec_file import SpecFileError


def changes_of(settings: Sequence[str]) -> dict[str, Any]:
    """`PATH=VALUE` each, VALUE in YAML -> the part of a spec they make. SpecFileError for what cannot be read."""
    changes: dict[str, Any] = {}
    for setting in settings:
        path, equals, value = setting.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise SpecFileError(f"--set {setting}: write PATH=VALUE, e.g. --set algorithm.beta_neg=0.2")
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise SpecFileError(f"--set {setting}: {value!r} is not a value in YAML") from error
        here = changes
        for depth, key in enumerate(keys[:-1]):
            here = here.setdefault(key, {})
            if not isinstance(here, dict):
                raise SpecFileError(f"--set {setting}: {'.'.join(keys[: depth + 1])} was given a value before")
        here[keys[-1]] = parsed
    return changes
