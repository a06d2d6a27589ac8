"""`asym demo`: the platform, a data set, a job, its progress and its result, in one go.

`builtin/tiny-arith`, a small character model that adds badly, learns two-digit additions with AsymGRPO. The same job
as examples/tiny-arith.yaml.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from client.additions import additions, write_jsonl
from client.combined_log import EVERYTHING
from client.credentials import home_folder, read_credentials
from client.extras import require_platform
from client.front import (
    DEFAULT_PORTS,
    Address,
    CannotStart,
    Front,
    free_port,
    is_up,
    lock_home,
    port_is_free,
    prepare_home,
)
from client.process_tree import how_it_ended
from client.progress import Standing, show
from client.sdk import Asym
from client.up import supervisor_command

BENCHMARK = "additions"
TRAIN_ROWS, EVALUATION_ROWS, DATA_SEED = 2000, 200, 0
TRAIN_FILE, EVALUATION_FILE = "additions-train.jsonl", "additions-eval.jsonl"
START_SECONDS = 120.0
DOUBLED = 2.0


def job_spec(train: str, evaluation: str) -> dict[str, Any]:
    """The demo's job on these data sets (ids, or files beside the spec)."""
    return {
        "name": "tiny-arith",
        "model": {"id": "builtin/tiny-arith"},
        "data": {"train": train},
        "reward": {"kind": "exact"},
        "algorithm": {"preset": "asymgrpo", "beta_pos": 0.9, "beta_neg": 0.4},
        "rollout": {"group_size": 8, "temperature": 1.0, "max_new_tokens": 6},
        "optim": {"lr": 3.0e-4, "prompts_per_step": 32, "prompts_per_update": 16},
        "train": {"steps": 150},
        "eval": [{"name": BENCHMARK, "data": evaluation, "every": 20, "samples": 4, "k": [1, 4], "temperature": 1.0}],
        "checkpoint": {"every": 20},
        "diagnostics": {"token_entropies": True},
        "seed": 0,
    }


def run_demo(
    home: Path, console: Console, *, keep_up: bool, told: Callable[[dict[str, Any]], None] | None = None
) -> int:
    """Run the demo against the platform in `home`, started when none is up: the exit code. told: gets the result."""
    began = time.monotonic()
    with _platform(home, console) as (asym, front):
        spec = write_files(home / "demo")
        standing = _train(asym, spec.parent, console)
        seconds = time.monotonic() - began
        code = _tell_result(standing, asym, spec, console, seconds)
        if told is not None:
            told(
                {
                    "job": standing.job,
                    "page": asym.run_page(standing.job["id"]),
                    "seconds": seconds,
                    **_learned(standing),
                }
            )
        if home != home_folder():
            _say(console, f"(the commands with ASYM_HOME={home})")
        if front is not None and keep_up:
            _say(console, "The platform stays up: open the run's page, or try the commands. Ctrl-C stops it.")
            _stay(front)
        elif front is not None:
            _say(console, "The platform stops now; `asym up` brings it back, with this run and its page.")
    return code


def write_files(folder: Path) -> Path:
    """The demo's data and its spec as files, to start from with a job of one's own: the spec's path. What somebody has
    changed of a spec stays."""
    folder.mkdir(mode=0o700, exist_ok=True)
    training, evaluation = additions(TRAIN_ROWS, EVALUATION_ROWS, DATA_SEED)
    write_jsonl(folder / TRAIN_FILE, training)
    write_jsonl(folder / EVALUATION_FILE, evaluation)
    spec = folder / "tiny-arith.yaml"
    if not spec.exists():
        spec.write_text(yaml.safe_dump(job_spec(TRAIN_FILE, EVALUATION_FILE), sort_keys=False))
    return spec


def _train(asym: Asym, folder: Path, console: Console) -> Standing:
    train = asym.upload_dataset(folder / TRAIN_FILE)
    held_out = asym.upload_dataset(folder / EVALUATION_FILE)
    _say(console, f"uploaded {train['rows']} additions to learn from ({train['id']})")
    _say(console, f"     and {held_out['rows']} others to be examined on ({held_out['id']})")
    job = asym.create_job(job_spec(train["id"], held_out["id"]))
    _say(console, f"created  {job['id']}: AsymGRPO on builtin/tiny-arith, {job['progress']['steps']} steps")
    _say(console, f"watch it {_page(asym, job['id'])}")
    return show(asym, job["id"], console)


def _tell_result(standing: Standing, asym: Asym, spec: Path, console: Console, seconds: float) -> int:
    job = standing.job
    _say(console, "")
    if job["status"] != "succeeded":
        failure = job["failure"]
        _say(console, f"The job {job['status']}: {failure['message'] if failure else 'no reason was given'}")
        for line in failure["evidence"] if failure else ():
            _say(console, f"  {line}")
        _say(console, f"Its log: asym logs {job['id']}")
        return 1
    points = standing.evaluations.get(BENCHMARK, [])
    if len(points) < 2:
        _say(console, "The job ended without an evaluation before and after it; this is a bug worth reporting.")
        return 1
    before, after = points[0][1], points[-1][1]
    _say(console, f"pass@1 on additions never trained on: {before:.3f} before, {after:.3f} after {points[-1][0]} steps")
    _say(console, f"({seconds:.0f} s in all)")
    _say(console, f"\nThe run's page:  {_page(asym, job['id'])}")
    _say(console, f"Its numbers:     asym metrics {job['id']}")
    _say(console, f"Its completions: asym rollouts {job['id']}")
    _say(console, f"Your own job:    change {spec}, then asym submit {spec} --watch")
    if after < DOUBLED * before:
        _say(console, "The accuracy did not double, as it should have.")
        return 1
    return 0


def _learned(standing: Standing) -> dict[str, Any]:
    """The shares of additions, never trained on, that are right at the first try; None where it was not measured."""
    points = [share for _, share in standing.evaluations.get(BENCHMARK, [])]
    before, after = (points[0], points[-1]) if len(points) > 1 else (None, None)
    return {"pass_at_1_before": before, "pass_at_1_after": after}


def _say(console: Console, text: str) -> None:
    # Whole lines, as they are: ids and addresses are for copying.
    console.print(text, soft_wrap=True, markup=False, highlight=False)


def _page(asym: Asym, job_id: str) -> str:
    return asym.run_page(job_id) or f"asym watch {job_id}"


@contextmanager
def _platform(home: Path, console: Console) -> Iterator[tuple[Asym, Front | None]]:
    """A connection to the platform in `home`; with the front of one started here, which is stopped at the end."""
    if is_up(home) and read_credentials(home) is not None:
        _say(console, f"using the platform that is up in {home}")
        with Asym(home=home) as asym:
            _wait_until_ready(asym)
            yield asym, None
        return
    require_platform()
    prepare_home(home)
    api_port, dashboard_port = (port if port_is_free(port) else free_port() for port in DEFAULT_PORTS)
    address = Address(api_port, dashboard_port)
    lock = lock_home(home, address)
    _say(console, f"starting Postgres, Valkey, API, worker and dashboard in {home}")
    front = Front(supervisor_command(home, address), home=home, lock=lock, quiet=True)
    began = time.monotonic()
    try:
        asym = _when_ready(front, home, address)
        _say(console, f"ready    in {time.monotonic() - began:.1f} s; dashboard at {address.dashboard_url}")
        with asym:
            yield asym, front
    finally:
        front.stop()
        front.wait()


def _when_ready(front: Front, home: Path, address: Address) -> Asym:
    deadline = time.monotonic() + START_SECONDS
    while True:
        if front.exit_code is not None or time.monotonic() > deadline:
            what = "is not ready" if front.exit_code is None else how_it_ended(front.exit_code)
            log = home / "logs" / f"{EVERYTHING}.log"
            lines = log.read_text(errors="replace").splitlines()[-20:] if log.exists() else []
            raise CannotStart("\n".join([f"the platform {what}; the end of {log}:", *lines]))
        credentials = read_credentials(home)
        if credentials is not None and credentials.api_url == address.api_url:
            asym = Asym(home=home)
            if asym.ready():
                return asym
            asym.close()
        time.sleep(0.2)


def _wait_until_ready(asym: Asym) -> None:
    """For a platform that is being started by somebody else at this moment."""
    deadline = time.monotonic() + START_SECONDS
    while not asym.ready():
        if time.monotonic() > deadline:
            raise CannotStart(f"the API at {asym.api_url} is not ready; see what its `asym up` says")
        time.sleep(0.2)


def _stay(front: Front) -> None:
    try:
        front.wait()
    except KeyboardInterrupt:
        print(file=sys.stderr)
