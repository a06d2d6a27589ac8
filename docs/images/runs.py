"""What is on the platform of the pictures: real runs of `builtin/tiny-arith`, small enough for two cores.

Each run is made once: what is there by its name is left as it is, so that a kept folder is photographed anew at once.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from client import Asym
from client.results import TERMINAL

EXAMPLES = Path(__file__).parents[2] / "examples"
PATIENCE = 5400.0
"""Seconds for all runs together: twenty of about a minute each where nothing else runs."""
BENCHMARK = "additions"
PRESETS = ("grpo", "dapo", "maxrl", "reinforce")
MAIN, COLLAPSED, FAILED, PAUSED = "asymgrpo", "lr-too-high", "lr-far-too-high", "longer-answers"
GOES_ON, WAITS, NO_WORKER = "asymgrpo-long", "grpo-after-it", "needs-a-gpu"
LABEL = "a100"
"""No worker of this platform has it: the run that asks for it says what it waits for."""


def everything(asym: Asym) -> dict[str, str]:
    """Name -> id of the runs that stand still, and of the sweep: made where they are missing, and waited for."""
    data = _data_sets(asym)
    known = _known(asym)
    wanted = {
        MAIN: _spec(data, MAIN, steps=150, seed=0, tags=["paper", "baseline"], notes="Table 2, first seed.")
        | {"diagnostics": {"every": 5, "token_entropies": True}},
        COLLAPSED: _spec(data, COLLAPSED, preset="grpo", steps=60) | {"optim": _optim(lr=3e4)},
        FAILED: _spec(data, FAILED, preset="grpo", steps=60) | {"optim": _optim(lr=1e37)},
        **{
            f"{preset}-s{seed}": _spec(data, f"{preset}-s{seed}", preset=preset, steps=100, seed=seed)
            for preset in PRESETS
            for seed in (0, 1)
        },
    }
    for name, spec in wanted.items():
        if name not in known:
            known[name] = asym.create_job(spec)["id"]
    sweeps = {each["name"]: each["id"] for each in asym.sweeps()}
    sweep = sweeps.get("betas") or asym.create_sweep(_betas(data))["id"]
    members = [member["job_id"] for member in asym.sweep(sweep)["jobs"]]
    if PAUSED not in known:
        _until(lambda: all(_ended(asym, known[name]) for name in wanted), "the runs have ended")
        known[PAUSED] = asym.create_job(_spec(data, PAUSED, steps=400) | {"resources": {"priority": 5}})["id"]
        _until(lambda: asym.job(known[PAUSED])["progress"]["step"] >= 20, f"{PAUSED} has done 20 steps")
        asym.pause(known[PAUSED])
    _until(lambda: asym.job(known[PAUSED])["status"] == "paused", f"{PAUSED} is paused")
    _until(lambda: all(_ended(asym, job_id) for job_id in members), "the sweep has ended")
    return known | {"sweep": sweep}


def in_motion(asym: Asym) -> dict[str, str]:
    """Name -> id of a run that goes on and of two that wait: until `stop`."""
    data = _data_sets(asym)
    made = {
        GOES_ON: _spec(data, GOES_ON, steps=4000, tags=["paper"]),
        WAITS: _spec(data, WAITS, preset="grpo", steps=150),
        NO_WORKER: _spec(data, NO_WORKER, steps=150) | {"resources": {"gpus": 1, "labels": [LABEL]}},
    }
    known = {name: asym.create_job(spec)["id"] for name, spec in made.items()}
    _until(lambda: asym.job(known[GOES_ON])["progress"]["step"] >= 25, f"{GOES_ON} has done 25 steps")
    return known


def stop(asym: Asym, job_ids: Mapping[str, str]) -> None:
    for job_id in job_ids.values():
        if asym.job(job_id)["status"] not in TERMINAL:
            asym.cancel(job_id)
        _until(lambda job_id=job_id: _ended(asym, job_id), f"{job_id} has ended")  # type: ignore[misc]
        asym.delete_job(job_id)


def _data_sets(asym: Asym) -> dict[str, str]:
    known = {dataset["name"]: dataset["id"] for dataset in asym.datasets()}
    for name in ("additions-train.jsonl", "additions-eval.jsonl"):
        if name not in known:
            known[name] = asym.upload_dataset(EXAMPLES / name)["id"]
    return known


def _known(asym: Asym) -> dict[str, str]:
    return {job["name"]: job["id"] for job in asym.jobs()}


def _optim(lr: float = 3e-4) -> dict[str, Any]:
    return {"lr": lr, "prompts_per_step": 16, "prompts_per_update": 8}


def _spec(
    data: Mapping[str, str], name: str, *, steps: int, preset: str = "asymgrpo", seed: int = 0, **more: object
) -> dict[str, Any]:
    return {
        "name": name,
        "model": {"id": "builtin/tiny-arith"},
        "data": {"train": data["additions-train.jsonl"]},
        "reward": {"kind": "exact"},
        "algorithm": {"preset": preset},
        "rollout": {"group_size": 8, "max_new_tokens": 6},
        "optim": _optim(),
        "train": {"steps": steps},
        "eval": [
            {
                "name": BENCHMARK,
                "data": data["additions-eval.jsonl"],
                "every": 20,
                "samples": 4,
                "k": [1, 2, 4],
                "temperature": 1.0,
            }
        ],
        "checkpoint": {"every": 50},
        "seed": seed,
        **more,
    }


def _betas(data: Mapping[str, str]) -> dict[str, Any]:
    base = _spec(data, "betas", steps=80)
    del base["seed"]
    grid = {"algorithm.beta_pos": [0.0, 0.45, 0.9], "algorithm.beta_neg": [0.0, 0.4]}
    return {
        "name": "betas",
        "base": base,
        "search": {"kind": "grid", "parameters": grid},
        "seeds": [0, 1],
        "metric": f"eval/{BENCHMARK}/pass_at_k/1",
    }


def _ended(asym: Asym, job_id: str) -> bool:
    return asym.job(job_id)["status"] in TERMINAL


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"not in time: {what}")
        time.sleep(1.0)
