"""Keeps a platform busy, injects one fault after another, and looks after each whether every promise holds.

What happens is a pure function of the seed, in which order; when exactly it meets the platform is the machine's.
"""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from store.database import Database
from store.status import TERMINAL, JobStatus
from tests.faults.suite.invariants import Known, Violation, check
from tests.faults.suite.stack import LEASE_SECONDS, SWEEP_SECONDS, Stack
from trainer.spec.failpoints import FIRED, RELEASED

ACTIVE = 5
"""Jobs that are queued or run at any moment: some more than there are slots."""
OVERDUE_SECONDS = SWEEP_SECONDS + LEASE_SECONDS + 10.0
"""How long a lease may be overdue: a sweep, a lease for those who come back from an outage, a busy machine's due."""
STEPS, EVERY = 40, 4


@dataclass(frozen=True)
class Armed:
    name: str
    path: Path


class Runner:
    """The stack, what is known of its jobs, and the means that the faults are made of (tests.faults.suite.kinds)."""

    def __init__(self, stack: Stack, seed: int) -> None:
        self.stack = stack
        self.random = random.Random(seed)
        self.known = Known()
        self.injected: Counter[str] = Counter()
        self.submitted = 0
        self.numbers = iter(range(1, 1_000_000))
        self.dataset = self._upload()
        self._later: list[tuple[float, Callable[[], object]]] = []
        # A connection of its own: those of the platform are cut by the faults.
        self.database = Database(stack.database_url, pool_size=3)
        self.rows: list[Any] = []
        self.reference: dict[int, dict[str, Any]] | None = None
        """Step -> metrics of the real trainer's job when nothing disturbs it; once it was needed."""
        self.log = (stack.root / "schedule.log").open("a", buffering=1)

    def _upload(self) -> str:
        rows = [{"prompt": f"{a}+{b}=", "answer": str(a + b)} for a in range(10, 18) for b in range(20, 28)]
        body = "".join(json.dumps(row) + "\n" for row in rows).encode()
        answer = self.stack.request("POST", "/datasets", files={"file": ("rows.jsonl", body)})
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    # The means.

    def say(self, what: str) -> None:
        print(f"{time.monotonic():.2f} {what}", file=self.log)

    def spec(self, name: str = "mini", **sections: Any) -> dict[str, Any]:
        return {
            "name": name,
            "model": {"id": "builtin/tiny-arith"},
            "data": {"train": self.dataset, "max_prompt_tokens": 16},
            "reward": {"kind": "exact"},
            "rollout": {"group_size": 4, "max_new_tokens": 4},
            "optim": {"lr": 1e-3, "prompts_per_step": 8},
            "train": {"steps": STEPS},
            "checkpoint": {"every": EVERY, "keep_last": 2},
            "resources": {"max_attempts": 100},
            "seed": self.random.randrange(2**31),
        } | sections

    def submit(self, name: str = "mini", key: str | None = None, **sections: Any) -> str:
        self.submitted += 1
        headers = {"Idempotency-Key": key or f"key {next(self.numbers)}"}
        answer = self.stack.request("POST", "/jobs", json=self.spec(name, **sections), headers=headers)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()["id"]

    def ask(self, statement: str, **values: Any) -> list[Any]:
        """Rows, however long the database takes to come back."""
        return self.patiently(lambda: self._ask(statement, values))

    def _ask(self, statement: str, values: dict[str, Any]) -> list[Any]:
        with self.database.transaction() as session:
            return list(session.execute(text(statement), values).all())

    def patiently(self, call: Callable[[], Any], seconds: float = 60.0) -> Any:
        deadline = time.monotonic() + seconds
        while True:
            try:
                return call()
            except SQLAlchemyError:
                if time.monotonic() > deadline:
                    raise
                self.tick()

    def arm(self, point: str, action: str, **options: Any) -> Armed:
        name = f"{point}#{next(self.numbers)}.json"
        path = self.stack.failpoints / name
        aside = self.stack.failpoints / f".{name}"
        aside.write_text(json.dumps({"action": action, **options}))
        aside.rename(path)
        return Armed(name, path)

    def fired(self, armed: Armed) -> dict[str, Any] | None:
        path = self.stack.failpoints / FIRED / armed.name
        try:
            return json.loads(path.read_text())
        except (FileNotFoundError, ValueError):
            return None

    def wait_fired(self, armed: Armed, seconds: float = 12.0) -> dict[str, Any] | None:
        """What the process said that was hit; None, and it is disarmed, when none came by in time."""
        found = self.wait(lambda: self.fired(armed), seconds)
        if not found:
            armed.path.unlink(missing_ok=True)
            return self.fired(armed)
        return found

    def release(self, armed: Armed) -> None:
        (self.stack.failpoints / RELEASED / armed.name).touch()

    def wait(self, condition: Callable[[], Any], seconds: float) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := condition()) and time.monotonic() < deadline:
            self.tick()
        return found

    def must(self, what: str, condition: Callable[[], Any], seconds: float = 45.0) -> Any:
        found = self.wait(condition, seconds)
        if not found:
            raise Violation(f"not within {seconds:g} s: {what}")
        return found

    def later(self, seconds: float, action: Callable[[], object]) -> None:
        self._later.append((time.monotonic() + seconds, action))

    def tick(self) -> None:
        now = time.monotonic()
        due = [entry for entry in self._later if entry[0] <= now]
        self._later = [entry for entry in self._later if entry[0] > now]
        for _, action in due:
            action()
        self.stack.keep_up()
        time.sleep(0.02)

    def running(self) -> list[str]:
        """Jobs that run now, no poison among them."""
        return [
            row.id
            for row in self.ask(
                "SELECT id FROM jobs WHERE status = 'running' AND name = 'mini' AND step < 36 ORDER BY id"
            )
        ]

    def some_running(self) -> str:
        found = self.must("a job that runs", self._keep_some_running, 90)
        return self.random.choice(found)

    def _keep_some_running(self) -> list[str]:
        self.keep_busy()
        return self.running()

    def keep_busy(self) -> None:
        active = self.ask(
            "SELECT count(*) AS jobs FROM jobs WHERE status IN ('queued', 'running', 'pausing', 'cancelling')"
        )[0].jobs
        for _ in range(active, ACTIVE):
            self.submit()

    def status(self, job_id: str) -> JobStatus:
        return JobStatus(self.ask("SELECT status FROM jobs WHERE id = :id", id=job_id)[0].status)

    def job(self, job_id: str) -> Any:
        return self.ask("SELECT * FROM jobs WHERE id = :id", id=job_id)[0]

    # The schedule.

    def inject(self, kind: str, fault: "Callable[[Runner], bool]") -> None:
        """One fault, and then every promise. A fault that met nothing (False) is drawn again, not counted."""
        for _ in range(5):
            self.keep_busy()
            began = time.monotonic()
            self.say(f"-> {kind}")
            if fault(self):
                self.injected[kind] += 1
                self.say(f"<- {kind} {time.monotonic() - began:.2f} s")
                break
        self.check()

    def check(self) -> None:
        self.rows = self.patiently(
            lambda: check(
                self.database,
                self.stack.home / "artifacts",
                self.known,
                lease_seconds=LEASE_SECONDS,
                overdue_seconds=OVERDUE_SECONDS,
            )
        )

    def finish(self, seconds: float = 180.0) -> None:
        """No more faults: every job must come to its end, and nothing of a trainer be left."""
        self.wait(lambda: not self._later, 60)
        for armed in self.stack.failpoints.glob("*.json"):
            armed.unlink()
        for row in self.ask("SELECT id FROM jobs WHERE status = 'paused'"):
            self.stack.request("POST", f"/jobs/{row.id}/resume")

        def all_ended() -> bool:
            self.check()
            return all(JobStatus(job.status) in TERMINAL for job in self.rows)

        self.must("the end of every job", all_ended, seconds)
        self.must("an end of every trainer process", lambda: not self.stack.trainers(), 15)
        for job in self.rows:
            if job.name == "mini" and JobStatus(job.status) is JobStatus.FAILED:
                raise Violation(f"{job.id} failed: {job.failure}")
        spool = self.stack.home / "spool"
        if spool.exists() and any(spool.iterdir()):
            raise Violation(f"left in the spool: {list(spool.iterdir())}")

    def in_background(self, call: Callable[[], object]) -> threading.Thread:
        thread = threading.Thread(target=call, daemon=True)
        thread.start()
        return thread

    def close(self) -> None:
        self.log.close()
        self.database.dispose()
