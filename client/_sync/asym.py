# Generated from client/_async/asym.py by `./dev sdk`; edit it there.
"""The connection: every domain's routes together, and the handles of jobs and sweeps."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from client._sync.datasets import Datasets
from client._sync.history import History
from client._sync.job_handle import JobHandle
from client._sync.jobs import Jobs
from client._sync.platform import Platform
from client._sync.sweep_handle import SweepHandle
from client._sync.sweeps import Sweeps
from client._sync.team import Team
from client._sync.transport import Transport
from client._sync.webhooks import Webhooks
from client.clock import Clock
from client.credentials import find_credentials
from client.frames import EVERY_STEP, comparison_frame
from client.spec_file import read_spec
from client.transfers import Progress

if TYPE_CHECKING:
    import pandas as pd


class Asym(Datasets, Jobs, History, Platform, Team, Sweeps, Webhooks):
    """A connection to one Asym API. Use it as a context manager, or close() it.

    Threads may share an `Asym`, the tasks of one event loop an `AsyncAsym`; both have the same methods.

    URL and key: the arguments, else ASYM_API_URL and ASYM_API_KEY, else ASYM_HOME/credentials.json.
    Requests that may be repeated safely are repeated `retries` times with growing, jittered pauses (429, 502, 503, 504,
    a broken connection; a Retry-After is heeded up to 30 s); so are created jobs, under an Idempotency-Key. Refusals
    raise `AsymError`; no answer within `timeout` seconds raises `Unreachable`. clock: for tests that do not wait.
    """

    def __init__(
        self,
        api_url: str | None = None,
        api_key: str | None = None,
        *,
        home: Path | str | None = None,
        timeout: float = 30.0,
        retries: int = 4,
        clock: Clock | None = None,
    ) -> None:
        credentials = find_credentials(api_url, api_key, home=home)
        self.api_url = credentials.api_url
        self.dashboard_url = credentials.dashboard_url
        self.clock = clock or Clock()
        self._transport = Transport(credentials, timeout=timeout, retries=retries, clock=self.clock)

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def submit(
        self,
        spec: Mapping[str, Any] | Path | str,
        *,
        idempotency_key: str | None = None,
        progress: Progress | None = None,
    ) -> JobHandle:
        """Create a job and hold it. Of a spec's file (YAML or JSON), the files that its data names are uploaded first.

        SpecFileError for a file that cannot be read; AsymError 422 names each wrong field. progress: of the uploads.
        """
        made = self.create_job(self._whole(spec, progress), idempotency_key=idempotency_key)
        return JobHandle(self, made)

    def get(self, job_id: str) -> JobHandle:
        """A job to hold. AsymError 404 when there is none."""
        return JobHandle(self, self.job(job_id))

    def submit_sweep(
        self,
        plan: Mapping[str, Any] | Path | str,
        *,
        idempotency_key: str | None = None,
        progress: Progress | None = None,
    ) -> SweepHandle:
        """Create every job of a plan and hold the sweep. Of a plan's file, the files of its base are uploaded first."""
        made = self.create_sweep(self._whole(plan, progress), idempotency_key=idempotency_key)
        return SweepHandle(self, made)

    def get_sweep(self, sweep_id: str) -> SweepHandle:
        """A sweep to hold. AsymError 404 when there is none."""
        return SweepHandle(self, self.sweep(sweep_id))

    def compare_frame(self, jobs: Sequence[str | JobHandle], keys: Sequence[str] | None = None) -> "pd.DataFrame":
        """Every step of these keys of at most 50 jobs as one frame, index (`job`, `step`); missing is NaN.

        MissingExtras says what to install where pandas is not.
        """
        ids = [job if isinstance(job, str) else job.id for job in jobs]
        return comparison_frame(self.compare(ids, keys, max_points=EVERY_STEP), keys)

    def _whole(self, content: Mapping[str, Any] | Path | str, progress: Progress | None) -> dict[str, Any]:
        """A spec, or a plan whose `base` is one, without files in it."""
        if not isinstance(content, str | Path):
            return dict(content)
        path = Path(content)
        read = read_spec(path)
        if isinstance(base := read.get("base"), dict):
            return {**read, "base": self.upload_files(base, path, progress=progress)}
        return self.upload_files(read, path, progress=progress)
