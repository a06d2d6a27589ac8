"""docker-compose.yml is valid by the compose specification, holds no secret, and runs commands that exist.

`tests/integration/test_compose_commands.py` starts those commands outside Docker.
"""

import re
from pathlib import Path

import pytest
import yaml
from compose_viz.spec.compose_spec import ComposeSpecification
from pydantic import ValidationError

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"


def compose() -> dict:
    # Extension fields (x-...) are allowed by the specification's schema, but lost in its generated model.
    return {key: value for key, value in yaml.safe_load(COMPOSE.read_text()).items() if not key.startswith("x-")}


def test_it_follows_the_compose_specification():
    specification = ComposeSpecification.model_validate(compose())
    assert set(specification.services) == {
        "postgres",
        "redis",
        "migrate",
        "api",
        "dashboard",
        "worker",
        "worker-cpu",
    }
    wrong = compose()
    wrong["services"]["api"]["comand"] = ["api"]
    with pytest.raises(ValidationError, match="comand"):
        ComposeSpecification.model_validate(wrong)


def test_it_holds_no_secret():
    for name, service in compose()["services"].items():
        for variable, value in service.get("environment", {}).items():
            if "PASSWORD" in variable:
                assert re.fullmatch(r"\$\{[A-Z_]+:\?[^}]+\}", value), f"{name}: {variable}"
            if "://" in value and "@" in value:
                assert re.search(r"://\w*:\$\{[A-Z_]+:\?[^}]+\}@", value), f"{name}: {variable}"
    for line in (ROOT / "docker" / "example.env").read_text().splitlines():
        assert line.startswith("#") or line.endswith("="), line


def test_every_service_waits_for_what_it_needs_and_says_that_it_is_well():
    services = compose()["services"]
    for name in ("postgres", "redis", "api", "dashboard"):
        assert "healthcheck" in services[name], name
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            assert how["condition"] in ("service_healthy", "service_completed_successfully")
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[needed], f"{name} waits for {needed}'s health"


def test_the_gpu_is_reserved_in_its_profile_only():
    services = compose()["services"]
    devices = services["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices[0]["capabilities"] == ["gpu"]
    assert services["worker"]["profiles"] == ["gpu"]
    assert services["worker-cpu"]["profiles"] == ["cpu"]
    assert "deploy" not in services["worker-cpu"]


def test_every_folder_an_image_copies_is_there_and_let_through():
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for name in ("service", "worker"):
        for line in (ROOT / "docker" / f"{name}.Dockerfile").read_text().splitlines():
            if line.startswith("COPY "):
                for source in line.split()[1:-1]:
                    assert (ROOT / source).exists(), source
                    assert source in allowed, source
