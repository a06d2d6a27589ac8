"""The OpenAPI document: complete, stable, with examples."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from api import snapshot
from api.main import OPEN_PATHS, create_app
from api.openapi import SPEC_EXAMPLES
from store.settings import Settings
from trainer.spec import JobSpec

OPERATIONS = {
    "upload_dataset", "list_datasets", "get_dataset", "list_dataset_rows", "count_tokens", "delete_dataset",
    "create_job", "validate_job", "list_jobs", "get_job", "cancel_job", "pause_job", "resume_job",
    "clone_job", "retry_job", "delete_job", "edit_job", "download_checkpoint", "get_telemetry", "sign_in",
    "create_sweep", "list_sweeps", "get_sweep", "cancel_sweep", "pause_sweep", "resume_sweep",
    "get_metrics", "compare_jobs", "compared_clocks", "compared_runs", "common_prompts", "export_metrics",
    "list_events", "list_rollouts", "list_logs", "list_checkpoints",
    "get_queue", "list_workers", "list_models", "list_presets", "get_me",
    "create_key", "list_keys", "revoke_key", "rotate_key", "healthz", "readyz",
    "openai_create_file", "openai_list_files", "openai_get_file", "openai_get_file_content", "openai_delete_file",
    "openai_create_fine_tuning_job", "openai_list_fine_tuning_jobs", "openai_get_fine_tuning_job",
    "openai_cancel_fine_tuning_job", "openai_pause_fine_tuning_job", "openai_resume_fine_tuning_job",
    "openai_list_fine_tuning_events", "openai_list_fine_tuning_checkpoints",
    "openai_list_models", "openai_get_model",
    "list_members", "add_member", "change_member", "remove_member", "list_audit",
    "create_webhook", "list_webhooks", "get_webhook", "edit_webhook", "delete_webhook", "rotate_webhook_secret",
    "test_webhook", "list_deliveries", "replay_delivery",
}  # fmt: skip


@pytest.fixture
def document(tmp_path):
    # No server answers there, and none is asked.
    url = SecretStr("postgresql://nobody@127.0.0.1:1/none")
    return create_app(Settings(home=tmp_path, artifacts=tmp_path / "artifacts", database_url=url)).openapi()


def operations(document):
    for path, methods in document["paths"].items():
        for operation in methods.values():
            yield path, operation


def test_operation_ids_are_the_ones_that_clients_were_generated_from(document):
    assert sorted(operation["operationId"] for _, operation in operations(document)) == sorted(OPERATIONS)


def test_the_snapshot_is_the_interface(document):
    stored = snapshot.SNAPSHOT.read_text()
    assert stored == snapshot.written(document), (
        "the interface is not the one of docs/openapi.json: look at what changed, then run ./dev openapi"
    )


def test_every_operation_is_named_summed_up_described_and_under_a_heading(document):
    for path, operation in operations(document):
        for part in ("operationId", "summary", "description", "tags"):
            assert operation.get(part), (path, part)


def test_every_operation_but_the_open_ones_asks_for_a_key_and_describes_its_errors(document):
    for path, operation in operations(document):
        if path in OPEN_PATHS:
            assert "security" not in operation
            continue
        assert operation["security"] == [{"MetricsToken" if path == "/metrics" else "ApiKey": []}], path
        assert {"401", "503"} <= operation["responses"].keys()
        errors = "application/json" if path.startswith("/v1/") else "application/problem+json"
        assert {"422", "400"} & operation["responses"].keys() or path == "/metrics"
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                assert list(response["content"]) == [errors], (path, status)


def test_every_body_and_answer_has_an_example(document):
    schemas = document["components"]["schemas"]

    def has_example(schema):
        reference = schema.get("$ref", "").removeprefix("#/components/schemas/")
        if not reference:
            return "examples" in schema
        resolved = schemas[reference]
        if "examples" in resolved or "const" in resolved.get("properties", {}).get("status", {}):
            return True
        # A page is exampled by its items.
        items = resolved.get("properties", {}).get("data", {}).get("items")
        return items is not None and has_example(items)

    for path, operation in operations(document):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            assert content.keys() & {"example", "examples"} or has_example(content["schema"]), path
        for status, response in operation["responses"].items():
            for content in response.get("content", {}).values():
                assert "example" in content or has_example(content["schema"]), (path, status)


def test_every_reference_leads_somewhere(document):
    def references(node):
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                yield node["$ref"]
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    for reference in references(document):
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"], reference


@pytest.mark.parametrize("name", SPEC_EXAMPLES)
def test_the_example_specs_are_specs(name):
    assert JobSpec.model_validate(SPEC_EXAMPLES[name]["value"]).train.steps > 0


def test_importing_the_api_imports_no_deep_learning():
    code = (
        "import sys, api.main; "
        "sys.exit(', '.join({'torch', 'transformers', 'worker', 'client', 'dashboard'} & set(sys.modules)) or 0)"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
