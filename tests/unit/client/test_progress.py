from typing import Any

import pytest

from client.progress import Standing, duration, line


def job(**changes: Any) -> Any:
    return {
        "id": "job_1",
        "name": "x",
        "status": "running",
        "attempt": 1,
        "created_at": "2026-01-01T00:00:00Z",
        "started_at": None,
        "finished_at": None,
        "progress": {"step": 12, "steps": 60, "eta_seconds": 75.0},
        "failure": None,
        "queue": None,
        **changes,
    }


def test_a_running_job_in_oneline() -> None:
    standing = Standing(
        job(),
        {"group/accuracy": 0.25, "entropy/spurious": 1.5},
        {"additions": [(0, 0.2), (10, 0.41)]},
    )
    assert line(standing) == (
        "running    step 12/60  accuracy 0.250  spurious entropy 1.500  additions pass@1 0.410 "
        "(before training 0.200)  ETA 1 min 15 s"
    )


def test_a_waiting_job_says_what_it_waits_for() -> None:
    waiting = job(status="queued", queue=place("team_gpu_limit", "team limit 4 GPUs reached", 90.0))
    assert line(Standing(waiting)).endswith("position 3, team limit 4 GPUs reached, starts in about 1 min 30 s")
    alone = job(status="queued", queue=place("no_worker", "no worker is connected", None))
    assert line(Standing(alone)).endswith("no worker is connected, `asym worker` starts one")


def place(code: str, reason: str, eta: float | None) -> dict[str, Any]:
    return {"position": 3, "wait_reason": reason, "code": code, "eta_seconds": eta}


def test_an_ended_job_has_no_eta() -> None:
    assert "ETA" not in line(Standing(job(status="succeeded")))


@pytest.mark.parametrize(
    ("seconds", "words"), [(None, "–"), (0.2, "0 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words
