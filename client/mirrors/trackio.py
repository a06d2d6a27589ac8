"""trackio: a run per job, in TRACKIO_DIR of this machine, or where TRACKIO_SPACE_ID or TRACKIO_SERVER_URL say."""

from collections.abc import Sequence
from contextvars import Context

import trackio
from trackio.run import Run

from client.mirrors.tracker import Point, TrackedRun, flat
from client.results import Job


class Trackio:
    keeps = False

    def __init__(self, project: str) -> None:
        self._project = project

    def open(self, job: Job, run: str) -> TrackedRun:
        # In a context of its own: `init` ends the run that its context has open.
        opened = Context().run(
            trackio.init,
            project=self._project,
            name=run,
            config=flat(job["spec"]),
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        return _Run(opened)

    def discard(self, run: str) -> None:
        """Left as it is: a project may be on somebody else's server, where runs are not deleted by their names."""


class _Run:
    def __init__(self, run: Run) -> None:
        self._run = run

    def log(self, points: Sequence[Point]) -> None:
        for point in points:
            self._run.log(dict(point.values), step=point.step)

    def close(self, status: str | None) -> None:
        self._run.finish()  # type: ignore[no-untyped-call]
