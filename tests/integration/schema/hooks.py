"""What schemathesis must not do, and where its chains of requests begin.

SEEDED names, as JSON, bodies that are accepted of the test's team by the operation that takes them, and what keeps its
key alive: a run whose key is gone meets nothing but 401s.
"""

import json
import os
from typing import Any

import schemathesis
from schemathesis.generation.meta import TestPhase

SEEDED = json.loads(os.environ["SEEDED"])
BODIES: dict[str, Any] = SEEDED["bodies"]
OWN: list[str] = SEEDED["own"]
KNOWN: list[str] = SEEDED["known"]
NOBODYS = "key_00000000000000000000000000"


@schemathesis.hook
def before_call(context: Any, case: Any, **kwargs: Any) -> None:
    for name, value in (case.path_parameters or {}).items():
        if value in OWN and case.method != "GET":
            case.path_parameters[name] = NOBODYS
    meta, name = case.meta, case.operation.definition.raw["operationId"]
    # What is wrong on purpose stays so.
    if meta is None or meta.phase.name != TestPhase.STATEFUL or not meta.generation.mode.is_positive:
        return
    # Nothing follows from a list that holds nothing, nor from a job that could not be made. What an answer has led to
    # stays as it is.
    if case.method == "GET" and not case.path_parameters and name != "compare_jobs":
        case.query = {}
    if name in BODIES and not _is_linked(case.body):
        case.body = BODIES[name]
    if case.method == "POST":
        for name, value in case.path_parameters.items():
            case.path_parameters[name] = _existing(name, value)


def _existing(parameter: str, value: str) -> str:
    """One that there is, for one that was made up."""
    kind = {"job_id": "job_", "dataset_id": "ds_", "sweep_id": "sweep_"}.get(parameter)
    if kind is None or value.startswith((kind, "ftjob")):
        return value
    return next(each for each in KNOWN if each.startswith(kind))


def _is_linked(body: Any) -> bool:
    return isinstance(body, dict) and (body.get("name") == "linked" or "training_file" in body)
