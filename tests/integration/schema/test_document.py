"""Requests made up from the OpenAPI document, right and wrong ones and chains of them, meet only what it promises.

schemathesis runs against a real server, with a fixed seed: no 5xx, no answer that its schema does not allow, no status
or media type that is not documented, nothing without a key, nothing left of what was deleted.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from store.access import Role
from tests.integration.api.conftest import Starter, bearer
from tests.integration.openai.conftest import GRADER, sums
from tests.integration.schema.conftest import DEFAULT_EXAMPLES

HERE = Path(__file__).parent
# A fifth of all that is made up of the schemas, and the body is create_job's. `./dev test-api` has it too.
SHORTER = """
[[operations]]
include-operation-id = "validate_job"
phases.coverage.enabled = false
"""


@pytest.fixture
def url(environment, free_port, wait_until):
    starter = Starter(environment, free_port, wait_until)
    # With a token of its own /metrics asks for one, as it does on any address but this machine's.
    # What it counts of requests and wrong keys would be met soon, and hide everything else.
    counted = ("KEY_REQUESTS_PER_SECOND", "KEY_BURST", "ADDRESS_REQUESTS_PER_SECOND", "ADDRESS_BURST")
    unlimited = {f"ASYM_{name}": "1000000" for name in (*counted, "WRONG_KEYS_PER_MINUTE")}
    # No worker is there to sample, and nobody is to wait for one.
    yield starter(ASYM_METRICS_TOKEN="operator", ASYM_SAMPLER_WAIT_SECONDS="0.01", **unlimited)
    starter.stop()


@pytest.fixture
def admin(make_key):
    return make_key(Role.ADMIN)


@pytest.fixture
def seeded(url, admin):
    """What hooks.py has to know of a team that has a data set, a file, a job and a sweep."""
    with httpx.Client(base_url=url, headers=bearer(admin.plain), timeout=30) as http:
        lines = b'{"prompt": "1+1=", "answer": "2"}\n' * 4
        dataset = http.post("/datasets", files={"file": ("a.jsonl", lines)}).json()
        spec = {
            "name": "inhabitant",
            "model": {"id": "builtin/tiny-arith"},
            "data": {"train": dataset["id"]},
            "reward": {"kind": "exact"},
            "optim": {"prompts_per_step": 4},
        }
        file = http.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("a.jsonl", sums())}).json()
        bodies = {
            "create_job": spec,
            "validate_job": spec,
            "clone_job": {"changes": {"seed": 7}},
            "create_sweep": {"name": "s", "base": spec, "search": {"kind": "grid", "parameters": {"optim.lr": [1e-3]}}},
            "openai_create_fine_tuning_job": {
                "model": "builtin/tiny-arith",
                "training_file": file["id"],
                "method": {"type": "reinforcement", "reinforcement": {"grader": GRADER}},
            },
            "create_key": {"name": "k", "role": "viewer"},
        }
        known = [dataset["id"]]
        for path, made in (("/jobs", "create_job"), ("/sweeps", "create_sweep")):
            answer = http.post(path, json=bodies[made])
            assert answer.status_code == 201, answer.text
            known.append(answer.json()["id"])
        answer = http.post("/v1/fine_tuning/jobs", json=bodies["openai_create_fine_tuning_job"])
        assert answer.status_code == 200, answer.text
    return {"bodies": bodies, "known": known, "own": [admin.identity.key_id, admin.identity.member_id]}


@pytest.fixture
def explore(url, admin, seeded, tmp_path):
    """explore(*options) -> what schemathesis said, all of whose checks were passed with a key that still is one."""

    def run(*options, configuration=""):
        file = tmp_path / "schemathesis.toml"
        file.write_text((HERE / "schemathesis.toml").read_text() + configuration)
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(file), "run"),
            *(f"{url}/openapi.json", "--header", f"Authorization: Bearer {admin.plain}", "--seed", "1", *options),
            *("--suppress-health-check", "all", "--no-shrink", "--continue-on-failure", "--warnings", "off"),
        ]
        known = {"COLUMNS": "160", "SCHEMATHESIS_HOOKS": str(HERE / "hooks.py"), "SEEDED": json.dumps(seeded)}
        done = subprocess.run(
            command, cwd=tmp_path, env=os.environ | known, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
        assert httpx.get(f"{url}/me", headers=bearer(admin.plain)).status_code == 200, "its key did not outlive the run"
        print(done.stdout[-1500:])
        return done.stdout

    return run


@pytest.mark.timeout(3600)
def test_every_answer_is_one_that_the_document_promises(explore, pytestconfig):
    # In a run of all tests the option is not known: pytest asks the folders of its arguments only.
    examples = pytestconfig.getoption("examples", DEFAULT_EXAMPLES)
    said = explore(
        *("--phases", "examples,coverage,fuzzing", "--max-examples", str(examples)),
        configuration=SHORTER if examples == DEFAULT_EXAMPLES else "",
    )
    assert int(re.search(r"(\d+) generated", said)[1]) > 1000, said[-3000:]


def test_what_follows_from_an_answer_is_what_the_document_promises(explore):
    """Chains of requests along the document's links (api/links.py)."""
    said = explore("--phases", "stateful")
    covered, selected = map(int, re.search(r"(\d+) covered / (\d+) selected", said).groups())
    assert covered > selected / 2, said[-3000:]
