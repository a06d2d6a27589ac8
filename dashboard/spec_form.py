"""A job spec as a form: the fields that its JSON schema has, and the spec that was filled in. Knows no Streamlit."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from dashboard.differences import SECTIONS

Schema = Mapping[str, Any]

LEFT_TO_THEMSELVES = frozenset({"eval", "reward.options", "reward.bonus", "data.chat_template_kwargs"})
"""Lists and free objects: one field each, in YAML."""


@dataclass(frozen=True)
class Field:
    """One value of a spec."""

    path: str
    """`algorithm.beta_neg`"""
    help: str
    default: str
    """As YAML; empty where there is none and one must be given."""
    choices: tuple[str, ...]
    """As YAML; none where any value of a type goes."""
    long: bool
    """Wants more than a line."""

    @property
    def section(self) -> str:
        return self.path.partition(".")[0]

    @property
    def label(self) -> str:
        return self.path.partition(".")[2] or self.path


def fields(schema: Schema) -> list[Field]:
    """Every field, section by section in the order in which the documentation tells them."""
    found = list(_fields(schema, _resolved(schema, schema), ""))
    return sorted(
        found, key=lambda field: SECTIONS.index(field.section) if field.section in SECTIONS else len(SECTIONS)
    )


def _fields(root: Schema, part: Schema, prefix: str) -> Iterator[Field]:
    for name, raw in part.get("properties", {}).items():
        path, options = f"{prefix}{name}", _options(root, raw)
        objects = [option for option in options if "properties" in option]
        if objects and path not in LEFT_TO_THEMSELVES and len(objects) == len([o for o in options if o != _NULL]):
            yield from _fields(root, objects[0], f"{path}.")
            continue
        values = [value for option in options for value in _values(option)]
        closed = bool(values) and all(option == _NULL or _values(option) for option in options)
        yield Field(
            path=path,
            help=str(raw.get("description") or "").strip(),
            default=_as_yaml(raw["default"]) if raw.get("default") is not None else "",
            choices=tuple(_as_yaml(value) for value in values) if closed else (),
            long=path in LEFT_TO_THEMSELVES or any(option.get("type") == "array" for option in options),
        )


_NULL = {"type": "null"}


def _resolved(root: Schema, schema: Schema) -> Schema:
    reference = schema.get("$ref")
    return schema if reference is None else root["$defs"][reference.removeprefix("#/$defs/")]


def _options(root: Schema, schema: Schema) -> list[Schema]:
    """The alternatives that a value may be, taken apart."""
    schema = _resolved(root, schema)
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return [option for each in schema[key] for option in _options(root, each)]
    return [schema]


def _values(option: Schema) -> list[Any]:
    if option.get("type") == "boolean":
        return [True, False]
    return list(option["enum"]) if "enum" in option else [option["const"]] if "const" in option else []


def _as_yaml(value: Any) -> str:  # noqa: ANN401 (any JSON value)
    return (
        yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True).removesuffix("...\n").strip()
    )


def as_value(text: str) -> Any:  # noqa: ANN401 (any JSON value)
    """What was typed, as YAML. ValueError that says what is wrong with it."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"not a value in YAML: {' '.join(str(error).split())}") from None


def filled(given: Mapping[str, str], texts: frozenset[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """(the part of a spec that was typed in, path -> what is wrong with a value). Empty values are left out.

    texts: paths whose value is text and nothing else, such as a name that looks like a number.
    """
    spec: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for path, typed in given.items():
        if not typed.strip():
            continue
        try:
            value = typed if path in texts else as_value(typed)
        except ValueError as error:
            errors[path] = str(error)
            continue
        *above, last = path.split(".")
        here = spec
        for name in above:
            here = here.setdefault(name, {})
        here[last] = value
    return spec, errors


def merged(spec: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The spec with changes laid over it as the API does it for a clone: JSON merge patch (RFC 7386), but another
    `algorithm.preset` or `reward.kind` replaces its section whole."""
    result = _patched(spec, changes)
    for section, name in (("algorithm", "preset"), ("reward", "kind")):
        given, before = changes.get(section), spec.get(section)
        now = before.get(name) if isinstance(before, Mapping) else None
        if isinstance(given, Mapping) and name in given and given[name] != now:
            result[section] = _patched({}, given)
    return result


def _patched(target: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(target)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            before = result.get(key)
            result[key] = _patched(before if isinstance(before, Mapping) else {}, value)
        else:
            result[key] = value
    return result


def value_at(spec: Mapping[str, Any], path: str) -> str:
    """A spec's value as YAML; empty where it has none, or null."""
    here: Any = spec
    for name in path.split("."):
        if not isinstance(here, Mapping) or here.get(name) is None:
            return ""
        here = here[name]
    return _as_yaml(here)


def by_field(errors: list[dict[str, Any]], fields: Sequence[str] = ()) -> dict[str, list[str]]:
    """The API's `errors`, by the path of the field that each is of; those of no field under the empty path.

    fields: of a section that is missing as a whole, such as `model`, the one to fill in (`model.id`).
    """
    within = {path.partition(".")[0]: path for path in fields if "." in path}
    found: dict[str, list[str]] = {}
    for error in errors:
        names = [str(part) for part in error.get("loc", []) if part != "body"]
        index = next((i for i, part in enumerate(names) if part.isdecimal()), None)
        path = ".".join(names[:index])
        path = within.get(path, path)
        where = ".".join(names[index:]) if index is not None else ""
        found.setdefault(path, []).append(f"{where}: {error['msg']}" if where else str(error["msg"]))
    return found
