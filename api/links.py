"""OpenAPI links: what can be asked next about what an answer has made. For readers, and for tests that follow them."""

from typing import Any

_JOB = (
    "get_job", "edit_job", "cancel_job", "pause_job", "resume_job", "clone_job", "retry_job", "delete_job",
    "list_events", "list_logs", "get_metrics", "list_rollouts", "list_checkpoints",
)  # fmt: skip
_OPENAI_JOB = tuple(
    f"openai_{name}"
    for name in (
        "get_fine_tuning_job", "pause_fine_tuning_job", "resume_fine_tuning_job", "cancel_fine_tuning_job",
        "list_fine_tuning_events", "list_fine_tuning_checkpoints",
    )
)  # fmt: skip

_SPEC = {
    "name": "linked",
    "model": {"id": "builtin/smollm2-135m-instruct"},
    "data": {"train": "$response.body#/id"},
    "reward": {"kind": "exact"},
    "optim": {"prompts_per_step": 1},
}
_GRADER = {
    "type": "string_check",
    "operation": "eq",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
}
_FINE_TUNING = {
    "model": "builtin/smollm2-135m-instruct",
    "training_file": "$response.body#/id",
    "method": {"type": "reinforcement", "reinforcement": {"grader": _GRADER}},
}

_FOLLOWED: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
"""(operation, status) -> the operations that may follow, with parameters or body taken from the answer."""


def _by(parameter: str, pointer: str, *operations: str) -> dict[str, dict[str, Any]]:
    return {operation: {"parameters": {parameter: f"$response.body#/{pointer}"}} for operation in operations}


for _made in ("create_job", "clone_job", "retry_job"):
    _FOLLOWED[_made, "201"] = _by("job_id", "id", *_JOB) | _by("jobs", "id", "compare_jobs")
_FOLLOWED["list_jobs", "200"] = _by("job_id", "data/0/id", "get_job") | _by("after", "next", "list_jobs")
_FOLLOWED["upload_dataset", "201"] = {
    **_by("dataset_id", "id", "get_dataset", "list_dataset_rows", "delete_dataset"),
    "create_job": {"requestBody": _SPEC},
    "validate_job": {"requestBody": _SPEC},
}
_FOLLOWED["create_key", "201"] = _by("key_id", "id", "revoke_key")
_FOLLOWED["openai_create_file", "200"] = {
    **_by("file_id", "id", "openai_get_file", "openai_get_file_content", "openai_delete_file"),
    "openai_create_fine_tuning_job": {"requestBody": _FINE_TUNING},
}
_FOLLOWED["openai_create_fine_tuning_job", "200"] = _by("job_id", "id", *_OPENAI_JOB) | _by("job_id", "id", "get_job")


def add_links(document: dict[str, Any]) -> None:
    """Write them into an OpenAPI document. KeyError for an operation, or an answer, that there is not."""
    operations = {
        operation["operationId"]: operation for path in document["paths"].values() for operation in path.values()
    }
    for (name, status), following in _FOLLOWED.items():
        operations[name]["responses"][status]["links"] = {
            target: {"operationId": operations[target]["operationId"], **how} for target, how in following.items()
        }
