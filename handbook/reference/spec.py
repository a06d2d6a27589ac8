"""Every field of a job spec and of a sweep's plan, from their JSON schemas."""

from collections.abc import Mapping

from handbook.reference.tables import Schema, code, one_line, table, what
from trainer.spec import JobSpec
from trainer.spec.reward import FAMILIES, kind_form, options_of
from trainer.spec.sweep import SweepSpec

_INTRODUCTION = """# Job spec

What `POST /jobs`, `asym submit` and `asym train` take, as YAML or JSON. Unknown keys are errors. Fields without a
default are needed. What a [preset](presets.md) sets goes before the defaults of `algorithm` shown here. `POST
/jobs/validate` and `asym submit --dry-run` answer with the spec as it is understood, every default filled in.

"""


def page() -> str:
    schema = JobSpec.model_json_schema()
    parts = [_INTRODUCTION, _fields(JobSpec.__doc__, schema, schema["$defs"])]
    for path, name in _sections(schema):
        parts.append(f"\n## `{path}` {{ #{anchor(name)} }}\n\n" + _section(name, schema["$defs"]))
    parts.append(
        "\n## Options of the verifiers { #verifiers }\n\nWhat `reward.options` holds for each `reward.kind`.\n"
    )
    for family in FAMILIES:
        options = options_of(family).model_json_schema()
        parts.append(f"\n### `{kind_form(family)}` {{ #verifier-{family.replace('_', '-')} }}\n\n")
        parts.append(_fields(options_of(family).__doc__, options, {}) if options.get("properties") else "No options.\n")
    plan = SweepSpec.model_json_schema()
    parts.append(
        "\n## A sweep's plan { #sweep }\n\nWhat `POST /sweeps` and `asym sweeps submit` take ([how](../sweeps.md)).\n\n"
    )
    own = {name: found for name, found in plan["$defs"].items() if name not in schema["$defs"] and name != "JobSpec"}
    parts.append(_fields(None, plan, own))
    for name in own:
        parts.append(f"\n### {name} {{ #{anchor(name)} }}\n\n" + _section(name, own))
    return "".join(parts)


def anchor(name: str) -> str:
    return name.lower()


def _sections(schema: Schema) -> list[tuple[str, str]]:
    """Path -> definition, in the order in which a spec has them; what lies within a section follows it."""
    found: dict[str, str] = {}

    def walk(path: str, value: Schema) -> None:
        for name in _named(value):
            if name in schema["$defs"] and name not in found and name != "JsonValue":
                found[name] = path
                for field, inner in schema["$defs"][name].get("properties", {}).items():
                    walk(f"{path}.{field}", inner)

    for field, value in schema["properties"].items():
        walk(field, value)
    return [(path, name) for name, path in found.items()]


def _named(value: object) -> list[str]:
    """The definitions that a schema refers to."""
    if isinstance(value, Mapping):
        own = [value["$ref"].rsplit("/", 1)[-1]] if "$ref" in value else []
        return own + [name for key, each in value.items() if key != "default" for name in _named(each)]
    return [name for each in value for name in _named(each)] if isinstance(value, list) else []


def _section(name: str, definitions: Mapping[str, Schema]) -> str:
    return _fields(definitions[name].get("description"), definitions[name], definitions)


def _fields(introduction: str | None, schema: Schema, definitions: Mapping[str, Schema]) -> str:
    """A table of an object's fields. What its class says of itself goes before it."""
    link = {name: f"#{anchor(name)}" for name in definitions if name != "JsonValue"}
    needed = schema.get("required", [])
    rows = []
    for field, value in schema.get("properties", {}).items():
        # A section's own default is that of its fields, which stand in its table.
        default = "needed" if field in needed else "" if _is_section(value) else code(value.get("default"))
        rows.append([f"`{field}`", what(value, link), default, one_line(value.get("description"))])
    said = f"{one_line(introduction)}\n\n" if introduction and not introduction.startswith("!") else ""
    return said + table(["field", "value", "default", "meaning"], rows)


def _is_section(value: Schema) -> bool:
    return "$ref" in value and isinstance(value.get("default"), dict)
