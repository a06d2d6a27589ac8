"""What the team's and the workers' pages say, worked out without a browser."""

from datetime import UTC, datetime

import pytest

from dashboard.views import team, workers

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
BEFORE, AFTER = "2026-01-15T11:59:00Z", "2026-01-15T12:01:00Z"


def key(**changed):
    return {
        "id": "key_1",
        "name": "ci",
        "prefix": "asym_7k2m9x",
        "member_id": "member_1",
        "role": "member",
        "scopes": None,
        "last_used_at": None,
        "expires_at": None,
        "revoked_at": None,
    } | changed


@pytest.mark.parametrize(
    ("changed", "state"),
    [
        ({}, "valid"),
        ({"expires_at": AFTER}, "valid"),
        ({"expires_at": BEFORE}, "expired"),
        ({"revoked_at": BEFORE}, "revoked"),
        # Rotated with a grace: it works until then.
        ({"revoked_at": AFTER}, "valid"),
        ({"revoked_at": BEFORE, "expires_at": BEFORE}, "revoked"),
    ],
)
def test_a_key_is_valid_until_its_end(changed, state):
    assert team.state_of(key(**changed), NOW) == state


def test_a_key_of_a_member_who_left_is_listed():
    row = team.key_row(key(scopes=["read"], last_used_at=BEFORE), {}, NOW)
    assert (row["Member"], row["Narrowed to"], row["Last used"]) == ("removed", "read", "1 min 00 s ago")


def test_use_is_shown_beside_its_limit_where_there_is_one():
    me = {
        "limits": {"running_gpus": 8, "queued_jobs": None, "gpu_hours": 2000, "disk_bytes": None},
        "used": {
            "running_gpus": 4,
            "queued_jobs": 2,
            "gpu_hours": 1310.52,
            "disk_bytes": 3 * 2**30,
            "recent_gpu_seconds": 90.0,
            "recent_cpu_seconds": 0.0,
        },
    }
    assert [shown[:2] for shown in team.uses(me)] == [
        ("GPUs in use", "4 of 8"),
        ("Queued runs", "2"),
        ("GPU-hours this month", "1,310.5 of 2,000"),
        ("Disk", "3.0 GiB"),
    ]


@pytest.mark.parametrize(
    ("member", "said"),
    [
        ("ada", "You are ada, admin, with the key ci"),
        ("ci", "You are here with the key ci, admin"),  # its member was made with it, and is called as it is
    ],
)
def test_who_one_is_is_said_without_saying_it_twice(member, said):
    me = {"member_id": "member_1", "role": "admin", "key_name": "ci", "expires_at": None}
    assert team.who(me, {"member_1": member}) == said


def worker(**changed):
    return {
        "name": "node-3",
        "host": "node-3.local",
        "state": "alive",
        "gpus": 2,
        "busy_gpus": 1,
        "cpu_slots": 3,
        "busy_cpu_slots": 2,
        "devices": [{"name": "H100", "memory_gb": 86}] * 2,
        "labels": [],
        "jobs": [{"id": "job_1", "name": "gsm8k", "gpus": 1}],
        "kept_for": None,
        "version": "0.1.0",
        "started_at": BEFORE,
        "heartbeat_at": BEFORE,
    } | changed


def test_totals_are_over_the_workers():
    assert workers.totals([worker(), worker(gpus=0, busy_gpus=0, devices=[])]) == [
        ("Workers", None, 2),
        ("GPUs in use", 1, 2),
        ("CPU slots in use", 4, 6),
    ]


def test_a_worker_without_gpus_has_no_share_of_them_in_use():
    assert workers.row(worker(), NOW)["gpus"] == 0.5
    assert workers.row(worker(gpus=0, busy_gpus=0), NOW)["gpus"] is None
