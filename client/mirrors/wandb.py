"""Weights & Biases: a run per job. WANDB_API_KEY, WANDB_BASE_URL and WANDB_MODE (offline) as its library reads them."""

import os
from collections.abc import Sequence
from pathlib import Path

import wandb
from wandb import Settings

from client.mirrors.tracker import Point, TrackedRun, flat
from client.results import Job

STEP = "step"
"""An axis of our own: W&B's counts what was logged, and takes no earlier step again."""


class Wandb:
    keeps = False

    def __init__(self, project: str, entity: str | None, folder: str | os.PathLike[str]) -> None:
        self._project, self._entity, self._folder = project, entity, Path(folder)

    def open(self, job: Job, run: str) -> TrackedRun:
        self._folder.mkdir(parents=True, exist_ok=True)
        opened = wandb.init(
            project=self._project,
            entity=self._entity,
            id=run,
            name=run,
            config=flat(job["spec"]),
            tags=[*job["tags"], f"asym:{job['id']}"],
            dir=str(self._folder),
            resume="allow",
            reinit="create_new",
            # This process is no training: its output, code and machine say nothing about the run.
            settings=Settings(console="off", disable_git=True, x_disable_stats=True, silent=True),
        )
        opened.define_metric("*", step_metric=STEP)
        return _Run(opened)

    def discard(self, run: str) -> None:
        """Left as it is: who may write to a W&B project may not always delete from it."""


class _Run:
    def __init__(self, run: "wandb.Run") -> None:
        self._run = run

    def log(self, points: Sequence[Point]) -> None:
        for point in points:
            self._run.log({**point.values, STEP: point.step, "_timestamp": point.at})

    def close(self, status: str | None) -> None:
        if status is not None:
            self._run.summary["status"] = status
        self._run.finish(exit_code=0 if status in (None, "succeeded") else 1)
