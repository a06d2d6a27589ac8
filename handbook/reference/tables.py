"""Tables in Markdown, and what a JSON schema says of a value in the few words that fit into a cell."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any]
_BOUNDS = (
    ("minimum", "≥"), ("ge", "≥"), ("exclusiveMinimum", ">"), ("gt", ">"),
    ("maximum", "≤"), ("le", "≤"), ("exclusiveMaximum", "<"), ("lt", "<"),
)  # fmt: skip
_TYPES = {"number": "number", "integer": "whole number", "string": "text", "boolean": "true, false", "null": "null"}


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table. Cells are Markdown; bars in them are escaped."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def one_line(text: str | None) -> str:
    """A docstring as the text of a cell."""
    return " ".join((text or "").split()).replace("<", "&lt;")


def code(value: object) -> str:
    """A value as YAML and JSON write it."""
    return f"`{value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}`"


def what(schema: Schema, link: Mapping[str, str]) -> str:
    """The type of a value with its bounds: `whole number, ≥ 1 or null`. link: name of a definition -> where it is
    shown."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"[{name}]({link[name]})" if name in link else name
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return " or ".join(dict.fromkeys(what(each, link) for each in schema[union]))
    if "const" in schema:
        return code(schema["const"])
    if "enum" in schema:
        return ", ".join(code(each) for each in schema["enum"])
    kind = schema.get("type")
    if kind == "array":
        inner = what(schema["items"], link) if "items" in schema else "anything"
        return f"list of {inner}{_length(schema, 'Items')}"
    if kind == "object":
        extra = schema.get("additionalProperties")
        return f"names with {what(extra, link)}" if isinstance(extra, dict) and extra else "object"
    if kind is None:
        return "anything"
    bounds = [f"{sign} {schema[name]:g}" for name, sign in _BOUNDS if name in schema]
    pattern = f", like `{schema['pattern']}`" if "pattern" in schema else ""
    return ", ".join([_TYPES.get(str(kind), str(kind)), *bounds]) + _length(schema, "Length") + pattern


def _length(schema: Schema, of: str) -> str:
    said = [
        f"{word} {schema[name]}" for name, word in ((f"min{of}", "at least"), (f"max{of}", "at most")) if name in schema
    ]
    return f" ({', '.join(said)})" if said else ""
