"""The files of examples/ for clusters: Kubernetes objects that fit together, and a batch script that runs a worker."""

import json
import os
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from store.settings import Settings
from tests.documentation.manifests import check_kubernetes

EXAMPLES = Path(__file__).parents[2] / "examples"
OBJECTS = [
    document
    for path in sorted((EXAMPLES / "kubernetes").glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
]
SCRIPT = EXAMPLES / "slurm" / "worker.sbatch"


@pytest.mark.parametrize("document", OBJECTS, ids=lambda each: f"{each['kind']} {each['metadata']['name']}")
def test_every_object_follows_kubernetes_schema(document: dict) -> None:
    check_kubernetes(document)


def test_an_unknown_field_would_be_noticed() -> None:
    wrong = json.loads(json.dumps(next(each for each in OBJECTS if each["kind"] == "Deployment")))
    wrong["spec"]["template"]["spec"]["containers"][0]["comand"] = ["asym"]
    with pytest.raises(kubernetes_validate.ValidationError, match="comand"):
        check_kubernetes(wrong)


def pods() -> dict[str, dict]:
    found = {each["metadata"]["name"]: each for each in OBJECTS if each["kind"] in ("Deployment", "Job")}
    return {name: each["spec"]["template"]["spec"] for name, each in found.items()}


def test_the_objects_fit_together() -> None:
    named = {(each["kind"], each["metadata"]["name"]) for each in OBJECTS}
    for name, pod in pods().items():
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        for volume in pod.get("volumes", []):
            if claim := volume.get("persistentVolumeClaim"):
                assert ("PersistentVolumeClaim", claim["claimName"]) in named, name
        for container in pod["containers"]:
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes, name
            for source in container.get("envFrom", []):
                # The secret is made by hand, so that no password lies in a file.
                assert ("ConfigMap", source.get("configMapRef", {}).get("name")) in named or "secretRef" in source, name
    for service in (each for each in OBJECTS if each["kind"] == "Service"):
        behind = [pod for deployment in OBJECTS if deployment["kind"] == "Deployment"
                  and deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]
                  for pod in [deployment["spec"]["template"]["spec"]]]  # fmt: skip
        (pod,) = behind
        assert service["spec"]["ports"][0]["targetPort"] == pod["containers"][0]["ports"][0]["containerPort"]


def test_their_settings_are_settings() -> None:
    (config,) = (each["data"] for each in OBJECTS if each["kind"] == "ConfigMap")
    settings = Settings.from_environment(config)
    assert str(settings.artifacts) == config["ASYM_ARTIFACTS"]
    assert {name.removeprefix("ASYM_").lower() for name in config} <= Settings.model_fields.keys()
    # A worker that is told to leave has the time that it may take.
    assert pods()["asym-worker"]["terminationGracePeriodSeconds"] > settings.drain_seconds


def test_the_batch_script_becomes_a_worker(tmp_path: Path) -> None:
    """As Slurm runs it: with its variables, and the file with the settings sourced; another program in the worker's
    place."""
    (tmp_path / "asym.env").write_text("ASYM_DATABASE_URL=postgresql://u:p@h/asym\nASYM_BROKER_URL=redis://h\n")
    told = tmp_path / "asym"
    told.write_text('#!/bin/sh\nprintf "%s\\n" "$PPID" "$$" "$*" "$ASYM_DATABASE_URL" "$ASYM_HOME"\n')
    told.chmod(0o700)
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(tmp_path), "ASYM_COMMAND": str(told),
        "SLURM_JOB_ID": "7", "SLURM_JOB_PARTITION": "h100",
    }  # fmt: skip
    process = subprocess.Popen(["bash", str(SCRIPT)], env=environment, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    said, _ = process.communicate(timeout=60)
    parent, own, arguments, url, home = said.splitlines()
    assert process.returncode == 0
    # The shell itself: Slurm's signal to the script reaches the worker.
    assert (int(parent), int(own)) == (os.getpid(), process.pid)
    assert arguments.startswith("worker --name slurm-7-")
    assert "--label h100" in arguments
    assert url == "postgresql://u:p@h/asym"
    assert Path(home).stat().st_mode & 0o777 == 0o700


def test_the_worker_is_done_before_slurm_ends_the_job() -> None:
    lines = SCRIPT.read_text().splitlines()
    (signal,) = (line for line in lines if line.startswith("#SBATCH --signal="))
    (drain,) = (line for line in lines if "--drain-seconds" in line)
    assert int(drain.split()[-1]) < int(signal.rpartition("@")[2])
