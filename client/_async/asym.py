"""The connection: every domain's routes together, and the handles of jobs and sweeps."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from client._async.datasets import AsyncDatasets
from client._async.history import AsyncHistory
from client._async.job_handle import AsyncJobHandle
from client._async.jobs import AsyncJobs
from client._async.platform import AsyncPlatform
from client._async.sweep_handle import AsyncSweepHandle
from client._async.sweeps import AsyncSweeps
from client._async.team import AsyncTeam
from client._async.transport import AsyncTransport
from client._async.webhooks import AsyncWebhooks
from client.clock import AsyncClock
from client.credentials import find_credentials
from client.frames import EVERY_STEP, comparison_frame
from client.spec_file import read_spec
from client.transfers import Progress

if TYPE_CHECKING:
    import pandas as pd


class AsyncAsym(AsyncDatasets, AsyncJobs, AsyncHistory, AsyncPlatform, AsyncTeam, AsyncSweeps, AsyncWebhooks):
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
        clock: AsyncClock | None = None,
    ) -> None:
        credentials = find_credentials(api_url, api_key, home=home)
        self.api_url = credentials.api_url
        self.dashboard_url = credentials.dashboard_url
        self.clock = clock or AsyncClock()
        self._transport = AsyncTransport(credentials, timeout=timeout, retries=retries, clock=self.clock)

    async def close(self) -> None:
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def submit(
        self,
        spec: Mapping[str, Any] | Path | str,
        *,
        idempotency_key: str | None = None,
        progress: Progress | None = None,
    ) -> AsyncJobHandle:
        """Create a job and hold it. Of a spec's file (YAML or JSON), the files that its data names are uploaded first.

        SpecFileError for a file that cannot be read; AsymError 422 names each wrong field. progress: of the uploads.
        """
        made = await self.create_job(await self._whole(spec, progress), idempotency_key=idempotency_key)
        return AsyncJobHandle(self, made)

    async def get(self, job_id: str) -> AsyncJobHandle:
        """A job to hold. AsymError 404 when there is none."""
        return AsyncJobHandle(self, await self.job(job_id))

    async def submit_sweep(
        self,
        plan: Mapping[str, Any] | Path | str,
        *,
        idempotency_key: str | None = None,
        progress: Progress | None = None,
    ) -> AsyncSweepHandle:
        """Create every job of a plan and hold the sweep. Of a plan's file, the files of its base are uploaded first."""
        made = await self.create_sweep(await self._whole(plan, progress), idempotency_key=idempotency_key)
        return AsyncSweepHandle(self, made)

    async def get_sweep(self, sweep_id: str) -> AsyncSweepHandle:
        """A sweep to hold. AsymError 404 when there is none."""
        return AsyncSweepHandle(self, await self.sweep(sweep_id))

    async def compare_frame(
        self, jobs: Sequence[str | AsyncJobHandle], keys: Sequence[str] | None = None
    ) -> "pd.DataFrame":
        """Every step of these keys of at most 50 jobs as one frame, index (`job`, `step`); missing is NaN.

        MissingExtras says what to install where pandas is not.
        """
        ids = [job if isinstance(job, str) else job.id for job in jobs]
        return comparison_frame(await self.compare(ids, keys, max_points=EVERY_STEP), keys)

    async def _whole(self, content: Mapping[str, Any] | Path | str, progress: Progress | None) -> dict[str, Any]:
        """A spec, or a plan whose `base` is one, without files in it."""
        if not isinstance(content, str | Path):
            return dict(content)
        path = Path(content)
        read = read_spec(path)
        if isinstance(base := read.get("base"), dict):
            return {**read, "base": await self.upload_files(base, path, progress=progress)}
        return await self.upload_files(read, path, progress=progress)
