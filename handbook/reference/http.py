"""Every route and every object of the HTTP interface, from its snapshot docs/openapi.json."""

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from handbook.reference.tables import Schema, code, one_line, table, what

DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"
_INTRODUCTION = """# HTTP

The interface as the running API describes it at `/docs` and `/openapi.json`. `Authorization: Bearer KEY` goes with
every request but those of *health* and `POST /sign-in`. Errors are `application/problem+json` (RFC 9457) with `errors:
[{loc, msg}]`; below `/v1` they have OpenAI's shape. Every route may answer 401, 422, 429 and 503
([what to do about each](../troubleshooting.md#errors-of-the-api)). Lists answer `{data, has_more, next}` and take
`limit` and `after`. The objects: [schemas](schemas.md).

"""


def page() -> str:
    document = json.loads(DOCUMENT.read_text())
    link = _links("schemas.md", document)
    parts = [_INTRODUCTION]
    routes = sorted(_routes(document), key=lambda each: each[2]["tags"][0].lower())
    for tag, group in groupby(routes, key=lambda each: each[2]["tags"][0]):
        parts.append(f"## {tag} {{ #{tag.lower().replace(' ', '-')} }}\n\n")
        parts += [_route(method, path, operation, link) for method, path, operation in group]
    return "".join(parts)


def schemas_page() -> str:
    document = json.loads(DOCUMENT.read_text())
    link = _links("", document)
    parts = [
        "# Schemas\n\nThe objects of the [HTTP interface](http.md). "
        "A job spec's parts have more words [there](spec.md).\n"
    ]
    for name, schema in sorted(document["components"]["schemas"].items(), key=lambda each: each[0].lower()):
        parts.append(f"\n## {name} {{ #{_anchor(name)} }}\n\n")
        if description := one_line(schema.get("description")):
            parts.append(description + "\n\n")
        needed = schema.get("required", [])
        rows = [
            [f"`{field}`", what(value, link), "yes" if field in needed else "", one_line(value.get("description"))]
            for field, value in schema.get("properties", {}).items()
        ]
        parts.append(table(["field", "value", "always", "meaning"], rows) if rows else what(schema, link) + "\n")
    return "".join(parts)


def _routes(document: Schema) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def _route(method: str, path: str, operation: dict[str, Any], link: dict[str, str]) -> str:
    parts = [f"### `{method} {path}` {{ #{operation['operationId'].replace('_', '-')} }}\n\n"]
    if description := operation.get("description"):
        parts.append(description.strip().replace("<", "&lt;") + "\n\n")
    if parameters := operation.get("parameters"):
        rows = [
            [
                f"`{each['name']}`" + (" (needed)" if each.get("required") else ""),
                each["in"],
                what(each["schema"], link),
                code(each["schema"]["default"]) if each["schema"].get("default") is not None else "",
                one_line(each.get("description")),
            ]
            for each in parameters
        ]
        parts.append(table(["parameter", "in", "value", "default", "meaning"], rows) + "\n")
    for kind, body in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(f"Body, `{kind}`: {what(body.get('schema', {}), link)}\n\n")
    rows = []
    for status, answer in sorted(operation["responses"].items()):
        shapes = [f"`{kind}`: {what(body.get('schema', {}), link)}" for kind, body in answer.get("content", {}).items()]
        rows.append([status, one_line(answer.get("description")), "; ".join(shapes)])
    return "".join(parts) + table(["status", "", "body"], rows) + "\n"


def _links(page: str, document: Schema) -> dict[str, str]:
    return {name: f"{page}#{_anchor(name)}" for name in document["components"]["schemas"]}


def _anchor(name: str) -> str:
    return name.lower().replace("_", "-")
