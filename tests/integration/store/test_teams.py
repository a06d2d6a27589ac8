"""`python -m store.teams`: what an operator types."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from store import keys
from store.secret import server_secret

ROOT = Path(__file__).parents[3]


@pytest.fixture
def asym_teams(environment):
    def run(*arguments, **settings):
        command = [sys.executable, "-m", "store.teams", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environment | settings, capture_output=True, text=True)
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr

    return run


def test_create_limit_and_list(asym_teams, database, settings):
    code, (made,), _ = asym_teams("create", "reasoning", "--running-gpus", "8", "--disk-bytes", "unlimited")
    assert code == 0
    with database.transaction() as session:
        identity = keys.authenticate(session, made["key"], server_secret(settings))
    assert (identity.team_id, identity.role) == (made["id"], "admin")
    assert made["own"] == {"running_gpus": 8, "disk_bytes": "unlimited"}

    defaults = {"ASYM_TEAM_RUNNING_GPUS": "2", "ASYM_TEAM_GPU_HOURS": "100", "ASYM_TEAM_DISK_BYTES": "5"}
    limits = {"running_gpus": 8, "queued_jobs": None, "gpu_hours": 100, "disk_bytes": None}
    code, (shown,), _ = asym_teams("limits", "reasoning", **defaults)
    assert (code, shown["limits"]) == (0, limits)
    code, (shown,), _ = asym_teams("limits", made["id"], "--running-gpus", "default", "--queued-jobs", "0", **defaults)
    assert shown["limits"] == limits | {"running_gpus": 2, "queued_jobs": 0}
    assert shown["used"]["running_gpus"] == 0
    code, listed, _ = asym_teams("list", **defaults)
    assert listed == [shown]


def test_what_is_wrong_is_said(asym_teams):
    assert asym_teams("limits", "nobody")[0] == 2
    assert "neither a number" in asym_teams("limits", "nobody", "--gpu-hours", "-3")[2]
    assert asym_teams("create", "a")[0] == 0
    code, _, said = asym_teams("create", "a")
    assert (code, said) == (1, "teams: there is a team 'a' already\n")
