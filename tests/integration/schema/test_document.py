"""Requests made up from the OpenAPI document, right and wrong ones and chains of them, meet only what it promises.

schemathesis runs against a real server, with a fixed seed: no 5xx, no answer that its schema does not allow, no status
or media type that is not documented, nothing without a key, nothing left of what was deleted.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from store.access import Role
from tests.integration.api.conftest import Starter, bearer
from tests.integration.schema.conftest import DEFAULT_EXAMPLES

HERE = Path(__file__).parent


@pytest.fixture
def url(environment, free_port, wait_until):
    starter = Starter(environment, free_port, wait_until)
    # With a token of its own /metrics asks for one, as it does on any address but this machine's.
    # What it counts of requests and wrong keys would be met soon, and hide everything else.
    counted = ("KEY_REQUESTS_PER_SECOND", "KEY_BURST", "ADDRESS_REQUESTS_PER_SECOND", "ADDRESS_BURST")
    unlimited = {f"ASYM_{name}": "1000000" for name in (*counted, "WRONG_KEYS_PER_MINUTE")}
    yield starter(ASYM_METRICS_TOKEN="operator", **unlimited)
    starter.stop()


@pytest.fixture
def headers(url, make_key):
    """Of an admin whose team has a data set and a job, so that more than 404s is met."""
    headers = bearer(make_key(Role.ADMIN).plain)
    with httpx.Client(base_url=url, headers=headers, timeout=30) as http:
        lines = b'{"prompt": "1+1=", "answer": "2"}\n' * 4
        dataset = http.post("/datasets", files={"file": ("a.jsonl", lines)}).json()
        spec = {
            "name": "inhabitant",
            "model": {"id": "builtin/tiny-arith"},
            "data": {"train": dataset["id"]},
            "reward": {"kind": "exact"},
        }
        assert http.post("/jobs", json=spec).status_code == 201
    return headers


@pytest.mark.timeout(3600)
def test_every_answer_is_one_that_the_document_promises(url, headers, pytestconfig, tmp_path):
    # In a run of all tests the option is not known: pytest asks the folders of its arguments only.
    examples = pytestconfig.getoption("examples", DEFAULT_EXAMPLES)
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml"), "run"),
        *(f"{url}/openapi.json", "--max-examples", str(examples), "--seed", "1"),
        *("--suppress-health-check", "all", "--no-shrink", "--continue-on-failure", "--warnings", "off"),
        # It would revoke the key that it runs with.
        *("--exclude-operation-id", "revoke_key"),
        *(part for name, value in headers.items() for part in ("--header", f"{name}: {value}")),
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"COLUMNS": "160"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
    counted = re.search(r"(\d+) generated", done.stdout)
    assert counted is not None
    assert int(counted[1]) > 1000, done.stdout[-3000:]
    print(done.stdout[-1500:])
