"""What a worker tells Prometheus, and the Grafana dashboard that is made of it."""

import json
import re
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from api.main import create_app
from store.errors import LeaseLost, SettingsError
from store.status import JobStatus
from worker import telemetry
from worker.measured import Measured

DASHBOARD = json.loads((Path(__file__).parents[3] / "docs/grafana/asym.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def samples(text):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def told(settings, free_port):
    """told(supervisor, measured): reads, each time it is called, what this worker tells."""

    def make(supervisor, measured):
        port = free_port()
        telemetry.serve(settings.model_copy(update={"worker_metrics_port": port}), measured, supervisor.standing)
        return lambda: httpx.get(f"http://127.0.0.1:{port}/metrics").text

    return make


def test_a_job_is_counted_while_it_runs_and_once_it_has_ended(
    start_worker, submit, told, wait_for_status, let_go, wait_until
):
    measured = Measured()
    supervisor = start_worker(cpu_slots=2, measured=measured)
    read = told(supervisor, measured)
    job_id = submit("plain", steps=4, hold=3)
    wait_for_status(job_id, JobStatus.RUNNING)
    found = samples(read())
    assert found["asym_worker_slots", ("kind", "cpu"), ("state", "used")] == 1
    assert found["asym_worker_slots", ("kind", "cpu"), ("state", "free")] == 1
    assert found["asym_worker_slots", ("kind", "gpu"), ("state", "used")] == 0
    assert found["asym_worker_trainers", ("state", "running")] == 1
    assert found["asym_worker_claims_total",] == 1
    assert found["asym_worker_database_reachable",] == 1
    let_go(job_id)
    wait_for_status(job_id, JobStatus.SUCCEEDED)
    text = wait_until(lambda: 'end="succeeded"} 1.0' in (text := read()) and text)
    found = samples(text)
    assert found["asym_worker_attempts_total", ("end", "succeeded")] == 1
    assert found["asym_worker_attempts_total", ("end", "lost")] == 0
    assert found["asym_worker_steps_total",] == 4
    assert found["asym_worker_checkpoints_total",] >= 1
    assert found["asym_worker_lease_renewals_total", ("result", "renewed")] >= 1
    assert found["asym_worker_lease_renewal_seconds_count",] >= 1
    assert found["asym_worker_spool_bytes",] == 0
    assert job_id not in text


def test_renewals_are_told_apart():
    measured = Measured()
    with measured.renewal():
        pass
    for error, result in ((LeaseLost("gone"), "lost"), (OSError("away"), "failed")):
        with pytest.raises(type(error)), measured.renewal():
            raise error
        assert measured.registry.get_sample_value("asym_worker_lease_renewals_total", {"result": result}) == 1
    assert measured.registry.get_sample_value("asym_worker_lease_renewals_total", {"result": "renewed"}) == 1


def test_it_is_off_unless_a_port_is_set_and_a_port_that_is_taken_is_said(settings, free_port):
    measured = Measured()
    telemetry.serve(settings, measured, lambda: pytest.fail("nobody asks"))
    assert not [family for family in measured.registry.collect() if family.name == "asym_worker_slots"]
    standing = telemetry.Standing(0, 0, 1, 1, 0, 0, 0, True)
    taken = settings.model_copy(update={"worker_metrics_port": free_port()})
    telemetry.serve(taken, measured, lambda: standing)
    with pytest.raises(SettingsError, match="cannot listen"):
        telemetry.serve(taken, Measured(), lambda: standing)


def test_the_dashboard_asks_for_metrics_that_there_are(settings):
    with TestClient(create_app(settings), client=("127.0.0.1", 50_000)) as http:
        text = http.get("/metrics").text
    measured = Measured()
    known = {family.name for family in text_string_to_metric_families(text)}
    known |= {family.name for family in measured.registry.collect()}
    known |= {family.name for family in telemetry._Now(lambda: telemetry.Standing(0, 0, 1, 1, 0, 0, 0, True)).collect()}
    asked = {
        re.sub(r"_(total|bucket)$", "", name)
        for panel in PANELS
        for target in panel["targets"]
        for name in re.findall(r"\basym_\w+", target["expr"])
    }
    assert asked <= known
    assert known - asked == set(), "the dashboard shows everything that is told"


def test_the_dashboard_is_one():
    assert (DASHBOARD["uid"], DASHBOARD["title"]) == ("asym-platform", "Asym")
    assert DASHBOARD["schemaVersion"] >= 36
    variables = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        taken |= cells
    for panel in PANELS:
        assert panel["datasource"]["uid"] == "${datasource}"
        references = [target["refId"] for target in panel["targets"]]
        assert references
        assert len(references) == len(set(references))
        for target in panel["targets"]:
            assert target["expr"].count("(") == target["expr"].count(")")
            assert target["expr"].count("{") == target["expr"].count("}")
            used = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval"}
            assert used <= variables.keys()
