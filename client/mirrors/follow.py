"""Following jobs: their rows as they are written, told to a tracker, from where the last mirror stopped."""

import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from client.errors import AsymError
from client.mirrors.tracker import Point, TrackedRun, Tracker, numbers
from client.results import MetricRow, MetricsTakenBack, Status
from client.sdk import Asym

LOOK_SECONDS = 5.0
"""How often new jobs are looked for."""
BATCH = 500
"""Rows that are told at once, when so many wait."""
REMEMBERED = 1000
"""Steps whose values are known, so that a row that is written again tells what is new in it alone."""
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 300.0
ACTIVE: tuple[Status, ...] = ("running", "pausing", "paused", "cancelling")
ENDED = frozenset({"succeeded", "failed", "cancelled"})
_JOB_ID = re.compile(r"job_[0-9a-z]+")
_WAIT = 0.2


@dataclass(frozen=True)
class Place:
    """How far a job has been told, in a file of its own, so that the next mirror goes on from there."""

    job_id: str
    number: int = 1
    """The how many-th run of the tracker it is: a past that was taken back is told anew, in another one."""
    cursor: str = "0"
    highest: int = 0
    """Step told."""
    is_open: bool = False
    """A mirror tells it, or was killed while it did."""
    has_ended: bool = False

    @property
    def run(self) -> str:
        return self.job_id if self.number == 1 else f"{self.job_id}-{self.number}"

    def again(self) -> "Place":
        return Place(self.job_id, self.number + 1)


class Mirror:
    """Tells one tracker of jobs. places: a folder of this mirror's own, for how far it has come."""

    def __init__(self, asym: Asym, tracker: Tracker, places: Path, say: Callable[[str], None]) -> None:
        self._asym, self._tracker, self._places, self._say = asym, tracker, places, say
        self._stop = threading.Event()
        places.mkdir(parents=True, exist_ok=True)

    def stop(self) -> None:
        """Finish what is being told, and return from `tell` or `follow`."""
        self._stop.set()

    def tell(self, job_ids: Sequence[str], tries: int = 3) -> list[str]:
        """Tell of these jobs until they have ended; those that failed `tries` times in a row.

        AsymError for a job that is not there, before anything is told.
        """
        for job_id in job_ids:
            self._asym.job(job_id)
        failed: list[str] = []

        def one(job_id: str) -> None:
            if not self._persist(job_id, tries):
                failed.append(job_id)

        threads = [threading.Thread(target=one, args=(job_id,), name=job_id, daemon=True) for job_id in job_ids]
        for thread in threads:
            thread.start()
        _wait_for(threads)
        return failed

    def follow(self, tags: Sequence[str] = ()) -> list[str]:
        """Tell of every job of the team from when it begins to run, and of those that an earlier mirror left, until
        `stop`: their ids. Whatever fails is said and tried again."""
        threads: dict[str, threading.Thread] = {}
        for place in self._left():
            threads[place.job_id] = self._begin(place.job_id)
        while not self._stop.is_set():
            try:
                for job in self._asym.jobs(status=ACTIVE, tags=tags):
                    if job["id"] not in threads:
                        threads[job["id"]] = self._begin(job["id"])
            except AsymError as error:
                self._say(f"the API: {error}; asked again in {LOOK_SECONDS:.0f} s")
            self._stop.wait(LOOK_SECONDS)
        _wait_for(threads.values())
        return sorted(threads)

    def _begin(self, job_id: str) -> threading.Thread:
        thread = threading.Thread(target=self._persist, args=(job_id, None), name=job_id, daemon=True)
        thread.start()
        return thread

    def _persist(self, job_id: str, tries: int | None) -> bool:
        """Tell of a job, again and again where that fails; False when it has failed so often."""
        failures, pause = 0, FIRST_PAUSE
        while not self._stop.is_set():
            before = self._read(job_id)
            try:
                while self._tell(job_id):
                    pass
                return True
            except Exception as error:  # noqa: BLE001 (trackers raise whatever they like)
                if isinstance(error, AsymError) and error.status == 404:
                    self._say(f"{job_id} was deleted")
                    self._write(replace(before, has_ended=True))
                    return True
                came_on = self._read(job_id).cursor != before.cursor
                failures, pause = (1, FIRST_PAUSE) if came_on else (failures + 1, pause)
                last = failures == tries
                then = "given up" if last else f"tried again in {pause:.0f} s"
                self._say(f"{job_id}: {type(error).__name__}: {error}; {then}")
                if last:
                    return False
            self._stop.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        return True

    def _tell(self, job_id: str) -> bool:
        """One run of the tracker; True when it has to be told anew, in another one."""
        place = self._read(job_id)
        if place.has_ended:
            return False
        if place.is_open and not self._tracker.keeps:
            # A mirror was killed, and what it had told last is unknown.
            self._tracker.discard(place.run)
            place = place.again()
        job = self._asym.job(job_id)
        run = self._tracker.open(job, place.run)
        self._write(place := replace(place, is_open=True))
        try:
            place, taken_back = self._pour(place, run)
        except BaseException:
            with suppress(Exception):  # The first failure is the one to be told.
                run.close(None)
            raise
        if taken_back:
            run.close(None)
            self._tracker.discard(place.run)
            self._write(place.again())
            return True
        status = self._asym.job(job_id)["status"]
        ended = status in ENDED and not self._stop.is_set()
        run.close(status if ended else None)
        self._write(replace(place, is_open=False, has_ended=ended))
        return False

    def _pour(self, place: Place, run: TrackedRun) -> tuple[Place, bool]:
        """Tell what follows the place, until the job has ended, `stop`, or told steps are taken back (True)."""
        told: dict[int, Mapping[str, float]] = {}
        for batch in self._batches(place):
            points: list[Point] = []
            for change in batch:
                place = replace(place, cursor=change["cursor"])
                drop_after = change.get("drop_after")
                if drop_after is not None:
                    if drop_after < max([place.highest, *(point.step for point in points)]):
                        return place, True
                    continue
                values = numbers(change["values"])
                known = told.get(change["step"], {})
                told[change["step"]] = values
                new = {key: value for key, value in values.items() if known.get(key) != value}
                if new:
                    points.append(Point(change["step"], datetime.fromisoformat(change["at"]).timestamp(), new))
            while len(told) > REMEMBERED:
                del told[next(iter(told))]
            if points:
                run.log(points)
                place = replace(place, highest=max(place.highest, *(point.step for point in points)))
            if self._tracker.keeps:
                self._write(place)
        return place, False

    def _batches(self, place: Place) -> Iterator[list[dict[str, Any]]]:
        """What has come, as much at once as there is: a tracker is called once for what has gathered meanwhile."""
        inbox: SimpleQueue[MetricRow | MetricsTakenBack | Exception | None] = SimpleQueue()

        def read() -> None:
            try:
                for change in self._asym.stream_metrics(place.job_id, since=place.cursor):
                    inbox.put(change)
                inbox.put(None)
            except Exception as error:  # noqa: BLE001 (raised again where it is read)
                inbox.put(error)

        # A stream is waited for in a thread of its own, which is left behind when this mirror is to stop.
        threading.Thread(target=read, daemon=True).start()
        over = False
        while not over and not self._stop.is_set():
            batch: list[Any] = []
            with suppress(Empty):
                batch.append(inbox.get(timeout=_WAIT))
                while len(batch) < BATCH:
                    batch.append(inbox.get_nowait())
            failure = next((each for each in batch if isinstance(each, Exception)), None)
            over = failure is not None or None in batch
            yield [dict(each) for each in batch if isinstance(each, dict)]
            if failure is not None:
                raise failure

    def _file(self, job_id: str) -> Path:
        if not _JOB_ID.fullmatch(job_id):
            raise ValueError(f"{job_id!r} is no job's id")
        return self._places / f"{job_id}.json"

    def _read(self, job_id: str) -> Place:
        try:
            return Place(**json.loads(self._file(job_id).read_text()))
        except FileNotFoundError:
            return Place(job_id)

    def _write(self, place: Place) -> None:
        file = self._file(place.job_id)
        aside = file.with_name(f".{file.name}.{os.getpid()}")
        aside.write_text(json.dumps(asdict(place)))
        aside.replace(file)

    def _left(self) -> list[Place]:
        """Told of, and not to their end."""
        found = [self._read(file.stem) for file in sorted(self._places.glob("job_*.json"))]
        return [place for place in found if not place.has_ended]


def _wait_for(threads: Iterable[threading.Thread]) -> None:
    for thread in threads:
        while thread.is_alive():
            thread.join(timeout=_WAIT)  # A signal is handled between two waits.
