"""What a trainer says, line by line, from the models that it is written and read with."""

from collections.abc import Iterator
from typing import get_args

from pydantic import BaseModel

from handbook.reference.docstrings import of_fields
from handbook.reference.spec import anchor
from handbook.reference.tables import code, one_line, table, what
from trainer.spec.events import (
    EXIT_DONE,
    EXIT_INFRASTRUCTURE_ERROR,
    EXIT_STOPPED,
    EXIT_USER_ERROR,
    Event,
)

_INTRODUCTION = """# Events

A trainer (`python -m trainer`, which the worker starts) says what it does as one JSON object a line, in the order in
which things happen: the metrics of every step up to a checkpoint come before that checkpoint's event. Undefined
metrics are null. `asym train` is the same trainer with a progress bar instead. What the API shows of a job's life,
state changes included, is `GET /jobs/{job_id}/events` ([HTTP](http.md)).

"""


def page() -> str:
    parts = [_INTRODUCTION]
    for model in get_args(get_args(Event)[0]):
        kind = model.model_fields["type"].default
        parts.append(f"## `{kind}` {{ #{kind} }}\n\n{one_line(model.__doc__)}\n\n{_fields(model)}\n")
    parts.append("## Parts of them { #parts }\n\n")
    for model in _parts():
        parts.append(
            f"### {model.__name__} {{ #{anchor(model.__name__)} }}\n\n{one_line(model.__doc__)}\n\n{_fields(model)}\n"
        )
    rows = [
        [f"{EXIT_DONE}", "after `done`"],
        [f"{EXIT_USER_ERROR}", "after `failed` of kind `user`"],
        [f"{EXIT_INFRASTRUCTURE_ERROR}", "after `failed` of kind `infrastructure`"],
        [f"{EXIT_STOPPED}", "after `stopped`: it can be resumed"],
    ]
    return "".join(parts) + "## Exit status { #exit-status }\n\n" + table(["status", "when"], rows)


def _parts() -> list[type[BaseModel]]:
    """The models that fields of events have, and those that theirs have."""
    found: list[type[BaseModel]] = []
    waiting = list(get_args(get_args(Event)[0]))
    while waiting:
        for field in waiting.pop(0).model_fields.values():
            for model in _models(field.annotation):
                if model not in found:
                    found.append(model)
                    waiting.append(model)
    return found


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def _fields(model: type[BaseModel]) -> str:
    schema = model.model_json_schema()
    link = {name: f"#{anchor(name)}" for name in schema.get("$defs", {})}
    described = of_fields(model)
    rows = [
        [
            f"`{name}`",
            what(value, link),
            code(value["default"]) if "default" in value else "",
            one_line(described.get(name, "")),
        ]
        for name, value in schema["properties"].items()
        if name != "type"
    ]
    return table(["field", "value", "default", "meaning"], rows)
