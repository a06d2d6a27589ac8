"""The faults, by name: each injects one and says whether it met anything. What it must not break is checked after it.

A function that takes longer than its fault checks what is special about that fault itself, and raises Violation.
"""

import signal
import time
from collections.abc import Callable
from functools import partial

import httpx
import psutil

from store import checkpoints, doorbell, leases
from store.errors import LeaseLost
from store.status import TERMINAL, JobStatus
from tests.faults.suite.invariants import Violation
from tests.faults.suite.run import STEPS, Runner
from tests.faults.suite.stack import LEASE_SECONDS, SILENCE_SECONDS
from trainer.spec.events import Step

Fault = Callable[[Runner], bool]
S = JobStatus


# A process dies at a given point.


def trainer_dies(run: Runner, point: str, action: str = "kill", most_skipped: int = 6) -> bool:
    job = run.some_running()
    skip = 0 if point in ("trainer.load", "trainer.done") else run.random.randrange(most_skipped + 1)
    if point == "trainer.load":  # its next attempt's
        armed = run.arm(point, action, of=job)
        kill_trainer_of(run, job)
    else:
        armed = run.arm(point, action, of=job, skip=skip)
    return run.wait_fired(armed) is not None


def kill_trainer_of(run: Runner, job: str) -> None:
    for process in run.stack.trainers():
        try:
            if job in " ".join(process.cmdline()) and "guard.py" not in " ".join(process.cmdline()):
                process.kill()
        except psutil.Error:
            continue


def checkpoint_is_damaged(run: Runner, point: str, action: str) -> bool:
    """Without a word, and the trainer dies a little later: the damaged one must be found out and passed over."""
    job = run.some_running()
    armed = run.arm(point, action, of=job, skip=1 if point == "checkpoint.file" else 0)
    fired = run.wait_fired(armed)
    if fired is None:
        return False
    path = fired["path"].replace(".writing-", "")
    run.known.damaged.add(path[path.index("jobs/") :].partition("/model")[0].partition("/state.json")[0])
    run.wait_fired(run.arm("trainer.step", "kill", of=job, skip=run.random.randrange(3)))
    return True


def worker_dies(run: Runner, point: str) -> bool:
    armed = run.arm(point, "kill", skip=run.random.randrange(3) if point.startswith("worker.record") else 0)
    return run.wait_fired(armed) is not None


def worker_is_killed(run: Runner) -> bool:
    run.some_running()
    some_worker(run)[1].kill()
    return True


def some_worker(run: Runner):
    number = run.random.randrange(len(run.stack.workers))
    return number, run.stack.workers[number]


def trainer_is_killed(run: Runner) -> bool:
    kill_trainer_of(run, run.some_running())
    return True


def guard_is_killed(run: Runner) -> bool:
    run.some_running()
    number, _ = some_worker(run)
    guards = run.stack.guards(number)
    for guard in guards[:1]:
        guard.kill()
    return bool(guards)


# A process stands still.


def worker_sleeps_for_a_moment(run: Runner) -> bool:
    run.some_running()
    _, worker = some_worker(run)
    worker.send_signal(signal.SIGSTOP)
    run.wait(lambda: False, 0.3 * LEASE_SECONDS)
    worker.send_signal(signal.SIGCONT)
    return True


def worker_sleeps_past_its_lease(run: Runner) -> bool:
    """It is a zombie when it wakes: somebody else has its jobs, and trains them beside what is left of its own."""
    run.some_running()
    _, worker = some_worker(run)
    held = held_by(run, worker)
    worker.send_signal(signal.SIGSTOP)
    try:
        taken = [run.must(f"{row.id} is taken over", partial(goes_on_elsewhere, run, row)) for row in held]
    finally:
        worker.send_signal(signal.SIGCONT)
    return any(taken)


def held_by(run: Runner, *workers):
    """The jobs that these workers run, as they are."""
    return run.ask(
        "SELECT jobs.id, attempt FROM jobs JOIN workers ON workers.id = worker_id"
        " WHERE pid = ANY(:pids) AND jobs.status = 'running' AND jobs.name = 'mini'",
        pids=[worker.pid for worker in workers],
    )


def no_lease_expired(run: Runner, held, why: str) -> None:
    """Of these attempts; they may have ended otherwise, for a fault before."""
    expired = "SELECT 1 FROM job_events WHERE job_id = :id AND attempt = :attempt AND data->>'code' = 'lease_expired'"
    for row in held:
        if run.ask(expired, id=row.id, attempt=row.attempt):
            raise Violation(f"{row.id}: {why}, and its attempt {row.attempt} was taken away")


def goes_on_elsewhere(run: Runner, row) -> bool:
    """With the next attempt in the middle of its steps; or the attempt ended just before its worker fell asleep."""
    said = "SELECT 1 FROM job_metrics WHERE job_id = :id AND attempt > :attempt"
    return bool(run.ask(said, id=row.id, attempt=row.attempt)) or run.status(row.id) in TERMINAL


def worker_leaves(run: Runner) -> bool:
    """Drain: it ends by itself and well, and its jobs go on elsewhere without having lost an attempt."""
    run.some_running()
    _, worker = some_worker(run)
    if worker.poll() is not None:
        return False
    held = held_by(run, worker)
    worker.terminate()
    deadline = time.monotonic() + 25
    while worker.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    if worker.poll() is None:
        raise Violation("a worker that was told to leave is still there after 25 s")
    no_lease_expired(run, held, "its worker left")
    return worker.returncode == 0  # or it was killed by a fault that had been late


def worker_clock_is_wrong(run: Runner) -> bool:
    number, _ = some_worker(run)
    run.stack.offsets[number] = run.random.choice([-3600.0, 3600.0, 0.0])
    return worker_leaves(run)


def stale_attempt_writes(run: Runner) -> bool:
    """As a zombie would, straight at the repositories."""
    job = run.job(run.some_running())
    loss = Step(time=0.0, step=STEPS + 1, metrics={"policy/loss": -1.0})
    stale = job.attempt - 1 if run.random.random() < 0.8 else job.attempt + 1
    attacks = {
        "record": lambda session: leases.record(session, job.id, stale, [loss], ["stale"], batch=10**6),
        "renew": lambda session: leases.renew(session, job.id, stale, 1e6),
        "finish": lambda session: leases.finish(session, job.id, stale, S.SUCCEEDED),
        "release": lambda session: leases.release(session, job.id, stale, crashed=True),
        "set_aside": lambda session: leases.set_aside(session, job.id, stale, {"code": "x", "message": "x"}),
        "checkpoint": lambda session: checkpoints.prune(session, job.id, stale),
    }
    for name, attack in attacks.items():

        def strike(attack=attack) -> bool:
            with run.database.transaction() as session:
                try:
                    attack(session)
                except LeaseLost:
                    return False
                session.rollback()
                return True

        if run.patiently(strike):
            raise Violation(f"{job.id}: {name} of attempt {stale} was accepted beside attempt {job.attempt}")
    return True


# The servers.


def postgres_restarts(run: Runner, signum: signal.Signals) -> bool:
    postmaster = run.stack.servers.postmaster()
    if postmaster is None:
        return False
    postmaster.send_signal(signum)
    run.wait(lambda: not postmaster.is_running(), 10)
    run.ask("SELECT 1")
    return True


def postgres_hangs(run: Runner, leases_long: float) -> bool:
    """It costs as long as it takes and nothing else: who could not renew has lost nothing when nobody could claim."""
    run.some_running()
    held = held_by(run, *(worker for worker in run.stack.workers if worker.poll() is None))
    run.stack.servers.signal("postgres", signal.SIGSTOP)
    try:
        run_until = time.monotonic() + leases_long * LEASE_SECONDS
        while time.monotonic() < run_until:
            time.sleep(0.02)
    finally:
        run.stack.servers.signal("postgres", signal.SIGCONT)
    run.ask("SELECT 1")
    if leases_long > 1:
        run.wait(lambda: False, 1.5 * LEASE_SECONDS)
        no_lease_expired(run, held, "the database was away")
    return True


def postgres_and_a_worker_die(run: Runner) -> bool:
    run.some_running()
    _, worker = some_worker(run)
    postgres_restarts(run, signal.SIGQUIT)
    worker.kill()
    return True


def broker_dies(run: Runner) -> bool:
    if not run.stack.servers.find("valkey"):
        return False
    run.stack.servers.signal("valkey", signal.SIGKILL)
    run.submit()  # its doorbell rings for nobody
    return True


def broker_is_emptied(run: Runner) -> bool:
    import redis

    path = run.stack.servers.urls["broker_url"].removeprefix("redis+socket://")
    try:
        with redis.Redis(unix_socket_path=path, socket_timeout=1.0) as client:
            client.flushall()
    except (redis.ConnectionError, redis.TimeoutError):  # killed, or suspended, by the fault before
        return False
    run.submit()
    return True


def broker_hangs(run: Runner) -> bool:
    if not run.stack.servers.find("valkey"):
        return False
    run.stack.servers.signal("valkey", signal.SIGSTOP)
    run.later(1.5, partial(_wake_broker, run))
    run.submit()
    return True


def _wake_broker(run: Runner) -> None:
    if run.stack.servers.find("valkey"):
        run.stack.servers.signal("valkey", signal.SIGCONT)


def doorbell_rings_often(run: Runner) -> bool:
    for _ in range(run.random.randrange(2, 11)):
        doorbell.ring(run.stack.servers.urls["broker_url"])
    return True


# The disk.


def disk_is_full(run: Runner, point: str) -> bool:
    """The job pauses with its reason, loses no attempt, and goes on when there is room."""
    job = run.some_running()
    armed = run.arm(point, "enospc", of=job, skip=run.random.randrange(4) if point == "checkpoint.file" else 0)
    if point in ("trainer.load", "worker.prepared"):
        kill_trainer_of(run, job)
    if run.wait_fired(armed) is None:
        return False
    attempt = run.job(job).attempt

    def paused() -> bool:
        row = run.job(job)
        return row.status in ("paused", *TERMINAL) or row.attempt > attempt

    run.must(f"{job} pauses for its full disk", paused)
    row = run.job(job)
    if row.status == "paused":
        if row.pause_reason is None or row.pause_reason["code"] != "disk_full":
            raise Violation(f"{job} is paused for {row.pause_reason}")
        answer = run.stack.request("POST", f"/jobs/{job}/resume")
        if answer.status_code != 200:
            raise Violation(f"{job} cannot be resumed: {answer.text}")
    elif row.status == "failed":
        raise Violation(f"{job} failed for a full disk: {row.failure}")
    return True


# Wishes that race with everything else.

RACED = (
    *("worker.claimed", "worker.prepared", "worker.settling", "worker.settled"),
    *("trainer.load", "trainer.rollout", "trainer.step", "checkpoint.file", "checkpoint.written", "trainer.done"),
)


def wish_races(run: Runner, wish: str) -> bool:
    point = run.random.choice(RACED)
    job = run.submit(train={"steps": 8}) if point != "trainer.rollout" else run.some_running()
    armed = run.arm(point, "hold", of=job)
    if run.wait_fired(armed) is None:
        return False
    answers = [run.stack.request("POST", f"/jobs/{job}/{wish}")]
    if wish == "pause" and run.random.random() < 0.5:
        answers.append(run.stack.request("POST", f"/jobs/{job}/cancel"))
    run.release(armed)
    if any(answer.status_code not in (200, 409) for answer in answers):
        raise Violation(f"{wish} at {point}: {[answer.text for answer in answers]}")
    row = run.must(
        f"{job}, {wish} at {point}, comes to rest",
        lambda: (found := run.job(job)).status in ("paused", *TERMINAL) and found,
    )
    if wish == "cancel" and answers[0].status_code == 200 and row.status == "paused":
        raise Violation(f"{job} was cancelled and is paused")
    if row.status == "paused":
        run.stack.request("POST", f"/jobs/{job}/resume")
    return True


def wish_at_any_moment(run: Runner, wish: str) -> bool:
    job = run.some_running()
    run.wait(lambda: False, run.random.random() * 0.5)
    answer = run.stack.request("POST", f"/jobs/{job}/{wish}")
    if answer.status_code not in (200, 409):
        raise Violation(f"{wish}: {answer.text}")
    run.later(1.0, partial(_resume, run, job))
    return True


def _resume(run: Runner, job: str) -> None:
    if run.status(job) is S.PAUSING:  # not yet, and then it can be
        run.later(0.5, partial(_resume, run, job))
    else:
        run.stack.request("POST", f"/jobs/{job}/resume")


# Poison.


def poison(run: Runner, action: str) -> bool:
    """It dies at every attempt: it ends as failed, with evidence, after as many as it may have."""
    job = run.submit("poison", resources={"max_attempts": 2})
    armed = run.arm("trainer.update", action, of=job, again=True)
    row = run.must(f"{job} fails", lambda: (found := run.job(job)).status in TERMINAL and found)
    armed.path.unlink()
    if row.status != "failed" or row.failure["kind"] != "infrastructure" or row.crashes != 2:
        raise Violation(f"{job}, {action} at every attempt: {row.status} after {row.crashes}, {row.failure}")
    expected = {"segfault": "Segmentation fault", "memory": "MemoryError", "kill": "SIGKILL"}[action]
    if expected not in "\n".join([row.failure["message"], *row.failure["evidence"]]):
        raise Violation(f"{job}: no word of {expected} in {row.failure}")
    return True


def poison_loop(run: Runner, action: str) -> bool:
    """It never comes back and never says a word: it is told of, and can be cancelled."""
    job = run.submit("poison")
    armed = run.arm("trainer.update", action, of=job)
    if run.wait_fired(armed) is None:
        return False
    told = "SELECT 1 FROM job_events WHERE job_id = :id AND data->>'code' = 'trainer_silent'"
    run.must(f"{job} is told to be silent", lambda: run.ask(told, id=job), SILENCE_SECONDS + 30)
    run.stack.request("POST", f"/jobs/{job}/cancel")
    run.must(f"{job} ends", lambda: run.status(job) in TERMINAL)
    return True


# The real trainer, on builtin/tiny-arith.

REAL = {
    "rollout": {"group_size": 4, "max_new_tokens": 4},
    "optim": {"lr": 1e-3, "prompts_per_step": 8},
    "train": {"steps": 12},
    "checkpoint": {"every": 3, "keep_last": 2},
    "reward": {"kind": "math", "timeout_seconds": 60},
    "seed": 7,
}


def real_metrics(run: Runner, job: str) -> dict[int, dict[str, object]]:
    rows = run.ask("SELECT step, values FROM job_metrics WHERE job_id = :id ORDER BY step", id=job)
    return {row.step: {key: value for key, value in row.values.items() if not key.startswith("perf/")} for row in rows}


def real_job_ends(run: Runner, job: str):
    return run.must(f"{job} ends", lambda: (row := run.job(job)).status in (*TERMINAL, "paused") and row, 300)


def real_trainer(run: Runner, point: str, action: str = "kill", skip: int | None = None) -> bool:
    if run.reference is None:
        reference = run.submit("real reference", **REAL)
        real_job_ends(run, reference)
        run.reference = real_metrics(run, reference)
    job = run.submit("real", **REAL)
    # Before the trainer can have come so far: it has torch to import.
    armed = run.arm(point, action, of=job, skip=run.random.randrange(4) if skip is None else skip)
    fired = run.wait_fired(armed, 120)
    if fired is None:
        return False
    if action == "flip":
        run.wait_fired(run.arm("trainer.step", "kill", of=job), 60)
    row = real_job_ends(run, job)
    if action == "enospc":
        if row.status != "paused" or row.pause_reason["code"] != "disk_full" or row.crashes:
            raise Violation(f"{job}, its disk full: {row.status}, {row.pause_reason}, {row.crashes} crashes")
        run.stack.request("POST", f"/jobs/{job}/resume")
        row = real_job_ends(run, job)
    if row.status != "succeeded" or row.attempt < 2:
        raise Violation(f"{job}, {action} at {point}: {row.status} in attempt {row.attempt}, {row.failure}")
    if real_metrics(run, job) != run.reference:
        raise Violation(f"{job}, {action} at {point}: its metrics are not those of an uninterrupted run")
    return True


# The API.


def api_dies_committed(run: Runner) -> bool:
    """After the job's commit and before the doorbell and the answer: asked again, it is the same job."""
    armed = run.arm("api.committed", "kill")
    key = f"killed {next(run.numbers)}"
    job = run.submit(key=key)
    if run.wait_fired(armed, 1) is None:
        return False
    return one_job_of(run, key, job)


def one_job_of(run: Runner, key: str, job: str) -> bool:
    found = [row.id for row in run.ask("SELECT id FROM jobs WHERE idempotency_key = :key", key=key)]
    if found != [job]:
        raise Violation(f"one Idempotency-Key, jobs {found}, answered {job}")
    return True


def api_dies_creating_a_sweep(run: Runner) -> bool:
    """After the commit of a sweep and before the answer: asked again, it is the same sweep, each job in it once."""
    armed = run.arm("api.created", "kill")
    plan = {
        "name": "killed",
        "base": run.spec(train={"steps": 4}),
        "search": {"kind": "grid", "parameters": {"optim.lr": [1e-3, 1e-4]}},
    }
    plan["base"].pop("seed")
    headers = {"Idempotency-Key": f"killed {next(run.numbers)}"}
    answer = run.stack.request("POST", "/sweeps", json=plan, headers=headers)
    if answer.status_code not in (200, 201):
        raise Violation(f"a sweep after a killed one: {answer.text}")
    jobs = [member["job_id"] for member in answer.json()["jobs"]]
    run.submitted += len(jobs)
    made = run.ask("SELECT id FROM sweeps WHERE idempotency_key = :key", key=headers["Idempotency-Key"])
    if [row.id for row in made] != [answer.json()["id"]] or len(set(jobs)) != 2 or None in jobs:
        raise Violation(f"one Idempotency-Key, sweeps {made}, answered {answer.json()}")
    return run.wait_fired(armed, 1) is not None


def api_dies_uploading(run: Runner) -> bool:
    armed = run.arm("api.upload", "kill")
    body = b'{"prompt": "1+1=", "answer": "2"}\n' * 20_000
    answer = run.stack.request("POST", "/datasets", files={"file": ("rows.jsonl", body)})
    if answer.status_code != 201:
        raise Violation(f"an upload after a killed one: {answer.text}")
    return run.wait_fired(armed, 1) is not None


def one_key_many_requests(run: Runner) -> bool:
    key, spec = f"raced {next(run.numbers)}", run.spec(train={"steps": 4})
    ids: set[str] = set()

    def post() -> None:
        headers = {"Idempotency-Key": key, "Authorization": f"Bearer {run.stack.key}"}
        try:
            answer = httpx.post(f"{run.stack.url}/jobs", json=spec, headers=headers, timeout=30, trust_env=False)
        except httpx.TransportError:
            return
        if answer.is_success:
            ids.add(answer.json()["id"])

    threads = [run.in_background(post) for _ in range(run.random.randrange(2, 7))]
    for thread in threads:
        thread.join()
    if not ids:
        return False
    return len(ids) == 1 and one_job_of(run, key, next(iter(ids)))


KINDS: dict[str, Fault] = {
    **{
        f"trainer killed at {point}": partial(trainer_dies, point=f"trainer.{point}")
        for point in ("load", "rollout", "update", "step", "done")
    },
    "trainer killed writing a checkpoint": partial(trainer_dies, point="checkpoint.file"),
    "trainer killed after a checkpoint": partial(trainer_dies, point="checkpoint.written", most_skipped=2),
    "trainer segfault": partial(trainer_dies, point="trainer.update", action="segfault"),
    "trainer out of memory": partial(trainer_dies, point="trainer.update", action="memory"),
    "trainer killed": trainer_is_killed,
    "guard killed": guard_is_killed,
    "checkpoint bit flip": partial(checkpoint_is_damaged, point="checkpoint.written", action="flip"),
    "checkpoint short": partial(checkpoint_is_damaged, point="checkpoint.written", action="short"),
    "checkpoint file short": partial(checkpoint_is_damaged, point="checkpoint.file", action="short"),
    **{
        f"worker killed at {point}": partial(worker_dies, point=f"worker.{point}")
        for point in ("claimed", "prepared", "recording", "recorded", "checkpoint", "settling", "settled")
    },
    "worker killed": worker_is_killed,
    "worker asleep past its lease": worker_sleeps_past_its_lease,
    "worker asleep for a moment": worker_sleeps_for_a_moment,
    "worker told to leave": worker_leaves,
    "worker's clock an hour off": worker_clock_is_wrong,
    "stale attempt writes": stale_attempt_writes,
    "postgres restarted": partial(postgres_restarts, signum=signal.SIGINT),
    "postgres crashed": partial(postgres_restarts, signum=signal.SIGQUIT),
    "postgres killed": partial(postgres_restarts, signum=signal.SIGKILL),
    "postgres hangs for a moment": partial(postgres_hangs, leases_long=0.3),
    "postgres hangs past the leases": partial(postgres_hangs, leases_long=1.5),
    "postgres and a worker die": postgres_and_a_worker_die,
    "broker killed": broker_dies,
    "broker emptied": broker_is_emptied,
    "broker hangs": broker_hangs,
    "doorbell rings 2 to 10 times": doorbell_rings_often,
    "disk full at a checkpoint": partial(disk_is_full, point="checkpoint.file"),
    "disk full at the model": partial(disk_is_full, point="trainer.load"),
    "disk full at the start": partial(disk_is_full, point="worker.prepared"),
    "cancel races": partial(wish_races, wish="cancel"),
    "pause races": partial(wish_races, wish="pause"),
    "cancel at any moment": partial(wish_at_any_moment, wish="cancel"),
    "pause at any moment": partial(wish_at_any_moment, wish="pause"),
    "poison: segfault": partial(poison, action="segfault"),
    "poison: out of memory": partial(poison, action="memory"),
    "poison: killed": partial(poison, action="kill"),
    "poison: hangs": partial(poison_loop, action="hang"),
    "poison: computes for ever": partial(poison_loop, action="spin"),
    "API killed before the doorbell": api_dies_committed,
    "API killed at a sweep": api_dies_creating_a_sweep,
    "API killed at an upload": api_dies_uploading,
    "one key, many requests": one_key_many_requests,
}

REAL_KINDS: dict[str, Fault] = {
    **{
        f"real trainer killed at {point}": partial(real_trainer, point=point)
        for point in ("trainer.rollout", "trainer.update", "trainer.step", "checkpoint.file")
    },
    **{
        f"real trainer killed at {point}": partial(real_trainer, point=point, skip=0)
        for point in ("trainer.load", "checkpoint.written", "trainer.done")
    },
    "real trainer out of memory": partial(real_trainer, point="trainer.update", action="memory"),
    "real trainer's disk full": partial(real_trainer, point="checkpoint.file", action="enospc"),
    "real trainer's checkpoint bit flip": partial(real_trainer, point="checkpoint.written", action="flip", skip=1),
}
"""Each costs the import of torch twice: a part of the long run only."""
