"""MLflow: a run per job in one experiment, of a tracking server or of a local store."""

import json
from collections.abc import Sequence

from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from client.mirrors.tracker import Point, TrackedRun, flat
from client.results import Job

BATCH = 1000
"""MLflow takes so many metrics in one call, and 100 parameters of 6,000 characters."""
PARAMS, PARAM_CHARACTERS = 100, 6000
NAME_TAG = "asym.run"
ENDED = {"succeeded": "FINISHED", "failed": "FAILED", "cancelled": "KILLED"}


class Mlflow:
    keeps = True

    def __init__(self, uri: str, experiment: str) -> None:
        self._client = MlflowClient(tracking_uri=uri)
        self._name = experiment

    def open(self, job: Job, run: str) -> TrackedRun:
        if (found := self._find(run)) is not None:
            self._client.update_run(found, status="RUNNING")
            return _Run(self._client, found)
        tags = {NAME_TAG: run, "asym.job": job["id"]} | {f"asym.tag.{tag}": "" for tag in job["tags"]}
        made = self._client.create_run(self._experiment(), run_name=run, tags=tags).info.run_id
        params = [
            Param(path, (value if isinstance(value, str) else json.dumps(value))[:PARAM_CHARACTERS])
            for path, value in flat(job["spec"]).items()
        ]
        for begin in range(0, len(params), PARAMS):
            self._client.log_batch(made, params=params[begin : begin + PARAMS])
        return _Run(self._client, made)

    def discard(self, run: str) -> None:
        if (found := self._find(run)) is not None:
            self._client.delete_run(found)

    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(self._name)
        made: str = self._client.create_experiment(self._name) if found is None else found.experiment_id
        return made

    def _find(self, run: str) -> str | None:
        runs = self._client.search_runs([self._experiment()], f"tags.`{NAME_TAG}` = '{run}'", max_results=1)
        return runs[0].info.run_id if runs else None


class _Run:
    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self._client, self._run_id = client, run_id

    def log(self, points: Sequence[Point]) -> None:
        # With the time it was measured at, a point that is told twice is one point to MLflow.
        metrics = [
            Metric(key, value, int(point.at * 1000), point.step)
            for point in points
            for key, value in point.values.items()
        ]
        for begin in range(0, len(metrics), BATCH):
            self._client.log_batch(self._run_id, metrics=metrics[begin : begin + BATCH])

    def close(self, status: str | None) -> None:
        if status is not None:
            self._client.log_batch(self._run_id, tags=[RunTag("asym.status", status)])
            self._client.set_terminated(self._run_id, ENDED[status])
