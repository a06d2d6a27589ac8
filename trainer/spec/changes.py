"""A job spec with changes: what a clone is made of."""

from typing import Any

Json = dict[str, Any]


def with_changes(spec: Json, changes: Json) -> Json:
    """The spec with a JSON merge patch (RFC 7386): objects merge key by key, null removes a key, all else replaces.

    Two sections are replaced whole where their meaning changes: `algorithm` when its preset is another (a resolved
    spec has every value of the old preset written out), and `reward` when its kind is (its options are that kind's).
    Neither argument is changed, nor is the result checked: that is `JobSpec.model_validate`'s.
    """
    merged: Json = _merged(spec, changes)
    for section, name in (("algorithm", "preset"), ("reward", "kind")):
        given = changes.get(section)
        if isinstance(given, dict) and name in given and given[name] != (spec.get(section) or {}).get(name):
            merged[section] = _merged({}, given)
    return merged


def _merged(target: object, patch: object) -> Any:  # noqa: ANN401 - any JSON
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result
