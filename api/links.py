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


def _spec(pointer: str) -> dict[str, Any]:
    """A job on the data set whose id stands there in the answer."""
    return {
        "name": "linked",
        "model": {"id": "builtin/smollm2-135m-instruct"},
        "data": {"train": f"$response.body#/{pointer}"},
        "reward": {"kind": "exact"},
        "optim": {"prompts_per_step": 1},
    }


_GRADER = {
    "type": "string_check",
    "operation": "eq",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
}


def _fine_tuning(pointer: str) -> dict[str, Any]:
    return {
        "model": "builtin/smollm2-135m-instruct",
        "training_file": f"$response.body#/{pointer}",
        "method": {"type": "reinforcement", "reinforcement": {"grader": _GRADER}},
    }


_FOLLOWED: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
"""(operation, status) -> the operations that may follow, with parameters or body taken from the answer."""


def _by(parameter: str, pointer: str, *operations: str) -> dict[str, dict[str, Any]]:
    return {operation: {"parameters": {parameter: f"$response.body#/{pointer}"}} for operation in operations}


for _made in ("create_job", "clone_job", "retry_job"):
    _FOLLOWED[_made, "201"] = _by("job_id", "id", *_JOB) | _by("jobs", "id", "compare_jobs")
for _moved in ("cancel_job", "pause_job", "resume_job", "edit_job"):
    _FOLLOWED[_moved, "200"] = _by("job_id", "id", "get_job", "pause_job", "resume_job", "cancel_job", "clone_job")
_FOLLOWED["list_jobs", "200"] = {
    **_by("job_id", "data/0/id", *_JOB),
    **_by("after", "next", "list_jobs"),
    **_by("jobs", "data/0/id", "compare_jobs"),
}
_FOLLOWED["get_queue", "200"] = _by("job_id", "data/0/id", "get_job", "pause_job", "cancel_job")
for _listed, _status, _pointer in (("upload_dataset", "201", "id"), ("list_datasets", "200", "data/0/id")):
    _FOLLOWED[_listed, _status] = {
        **_by("dataset_id", _pointer, "get_dataset", "list_dataset_rows", "count_tokens"),
        "create_job": {"requestBody": _spec(_pointer)},
        "validate_job": {"requestBody": _spec(_pointer)},
    }
_FOLLOWED["upload_dataset", "201"] |= _by("dataset_id", "id", "delete_dataset")
for _listed, _status, _pointer in (("create_sweep", "201", "id"), ("list_sweeps", "200", "data/0/id")):
    _FOLLOWED[_listed, _status] = _by("sweep_id", _pointer, "get_sweep", "pause_sweep", "resume_sweep", "cancel_sweep")
_FOLLOWED["get_sweep", "200"] = _by("job_id", "jobs/0/job_id", "get_job", "cancel_job")
_FOLLOWED["create_key", "201"] = _by("key_id", "id", "revoke_key", "rotate_key")
_FOLLOWED["rotate_key", "201"] = _by("key_id", "id", "revoke_key", "rotate_key")
_FOLLOWED["add_member", "201"] = {
    **_by("member_id", "id", "change_member", "remove_member"),
    "create_key": {"requestBody": {"name": "linked", "role": "viewer", "member_id": "$response.body#/id"}},
}
for _made in ("create_webhook", "rotate_webhook_secret"):
    _FOLLOWED[_made, "201"] = _by(
        "hook_id", "id", "get_webhook", "edit_webhook", "delete_webhook", "rotate_webhook_secret", "test_webhook",
        "list_deliveries",
    )  # fmt: skip
_FOLLOWED["openai_create_file", "200"] = {
    **_by("file_id", "id", "openai_get_file", "openai_get_file_content", "openai_delete_file"),
    "openai_create_fine_tuning_job": {"requestBody": _fine_tuning("id")},
}
_FOLLOWED["openai_list_files", "200"] = {
    **_by("file_id", "data/0/id", "openai_get_file", "openai_get_file_content"),
    "openai_create_fine_tuning_job": {"requestBody": _fine_tuning("data/0/id")},
}
for _shown, _pointer in (("openai_create_fine_tuning_job", "id"), ("openai_list_fine_tuning_jobs", "data/0/id")):
    _FOLLOWED[_shown, "200"] = _by("job_id", _pointer, *_OPENAI_JOB, "get_job")


def add_links(document: dict[str, Any]) -> None:
    """Write them into an OpenAPI document. KeyError for an operation, or an answer, that there is not."""
    operations = {
        operation["operationId"]: operation for path in document["paths"].values() for operation in path.values()
    }
    for (name, status), following in _FOLLOWED.items():
        operations[name]["responses"][status]["links"] = {
            target: {"operationId": operations[target]["operationId"], **how} for target, how in following.items()
        }
