"""Many requests over a few killable subprocesses, each request under a wall-clock limit that is kept from outside.

A subprocess that is past its limit, dies or talks nonsense is killed and replaced at once, and its request has failed;
it is not tried again, since it would only cost the same again.
"""

import contextlib
import math
import selectors
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from trainer.rewards.process import BrokenReplyError, VerifierProcess, VerifierUnavailableError

VerifyError = Literal["timeout", "crashed", "memory", "too_long", "bad_answer", "bad_reply", "unusable"]

_START_SECONDS = 60.0
"""For importing sympy on a machine that is busy with a model."""
_START_TRIES = 3
_CPU_GRACE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request. The reward is finite, in [0, 1], and 0 with every error."""

    reward: float
    error: VerifyError | None
    message: str
    seconds: float


class _Slot:
    """One subprocess and the request that it works at."""

    def __init__(self, process: VerifierProcess) -> None:
        self.process = process
        self.ready = False
        self.task: int | None = None
        """Index of the request in hand; None while it starts or waits."""
        self.id = 0
        self.sent = 0.0


class Dispatcher:
    """Not thread-safe: one `run` at a time."""

    def __init__(self, command: tuple[str, ...], workers: int, memory_bytes: int, wanted: Mapping[str, object]) -> None:
        """`wanted`: the first line that each subprocess is sent, which says what to load."""
        self._command = command
        self._wanted = dict(wanted)
        self._workers = workers
        self._timeout_seconds = 0.0
        self._memory_bytes = memory_bytes
        self._slots: list[_Slot] = []
        self._failed_starts = 0
        self._last_id = 0

    def start(self) -> None:
        """Start the subprocesses that are missing, without waiting for them."""
        while len(self._slots) < self._workers:
            slot = _Slot(VerifierProcess(self._command, self._memory_bytes))
            self._slots.append(slot)
            with contextlib.suppress(BrokenPipeError):  # one that has ended already is found when it is read from
                slot.process.send(self._wanted)

    def close(self) -> None:
        while self._slots:
            self._slots.pop().process.kill()

    def run(self, requests: Sequence[dict[str, object]], timeout_seconds: float) -> list[Outcome]:
        """The outcome of each request, in order; each has `timeout_seconds` of its own. VerifierUnavailableError when
        subprocesses cannot be started."""
        self._timeout_seconds = timeout_seconds
        # Those that died while nothing was asked of them, or that an interrupted run left at work.
        for slot in [slot for slot in self._slots if slot.task is not None or slot.process.has_ended()]:
            self._remove(slot)
        self._failed_starts = 0
        outcomes: dict[int, Outcome] = {}
        pending = deque(range(len(requests)))
        while len(outcomes) < len(requests):
            self.start()
            for slot in [slot for slot in self._slots if slot.ready and slot.task is None]:
                if pending:
                    self._give(slot, pending, requests)
            for slot, readable, writable in self._wait():
                task = slot.task
                outcome = self._hear(slot, readable, writable)
                if outcome is not None and task is not None:
                    outcomes[task] = outcome
                    self._failed_starts = 0
        self.start()  # for the next run, in place of one that failed with the last request
        return [outcomes[index] for index in range(len(requests))]

    def _give(self, slot: _Slot, pending: deque[int], requests: Sequence[dict[str, object]]) -> None:
        self._last_id += 1
        index = pending.popleft()
        limit = {"id": self._last_id, "cpu_seconds": self._timeout_seconds + _CPU_GRACE_SECONDS}
        try:
            slot.process.send({**requests[index], **limit})
        except BrokenPipeError:
            pending.appendleft(index)  # it had died before, so the request is not at fault
            self._start_failed(slot)
            return
        slot.task, slot.id, slot.sent = index, self._last_id, time.monotonic()

    def _wait(self) -> list[tuple[_Slot, bool, bool]]:
        """Slots that can be read from, written to, or are past their time: (slot, readable, writable)."""
        with selectors.DefaultSelector() as selector:
            for slot in self._slots:
                selector.register(slot.process.stdout_fd, selectors.EVENT_READ, slot)
                if slot.process.wants_to_write:
                    selector.register(slot.process.stdin_fd, selectors.EVENT_WRITE, slot)
            nearest = min(self._deadline(slot) for slot in self._slots) - time.monotonic()
            events = selector.select(None if math.isinf(nearest) else max(0.0, nearest))
        readable = {id(key.data) for key, mask in events if mask & selectors.EVENT_READ}
        writable = {id(key.data) for key, mask in events if mask & selectors.EVENT_WRITE}
        now = time.monotonic()
        return [
            (slot, id(slot) in readable, id(slot) in writable)
            for slot in list(self._slots)
            if id(slot) in readable or id(slot) in writable or now >= self._deadline(slot)
        ]

    def _deadline(self, slot: _Slot) -> float:
        if slot.task is not None:
            return slot.sent + self._timeout_seconds
        return math.inf if slot.ready else slot.process.started + _START_SECONDS

    def _hear(self, slot: _Slot, readable: bool, writable: bool) -> Outcome | None:
        """Take in what a slot has to say. The outcome of its request if that is now known; a slot that is of no more
        use is removed."""
        replies: list[dict[str, object]] | None = []
        try:
            if writable:
                slot.process.flush()
            if readable:
                replies = slot.process.receive()
        except BrokenPipeError:
            replies = None
        except BrokenReplyError:
            return self._fail(slot, "bad_reply")
        if replies is None:
            return self._fail(slot, "timeout" if slot.process.over_its_cpu_limit() else "crashed")
        if len(replies) == 1:
            return self._take(slot, replies[0])
        if replies:
            return self._fail(slot, "bad_reply")
        if time.monotonic() >= self._deadline(slot):
            return self._fail(slot, "timeout")
        return None

    def _take(self, slot: _Slot, reply: dict[str, object]) -> Outcome | None:
        if slot.task is None:
            if reply != {"ready": True} or slot.ready:
                return self._fail(slot, "bad_reply")
            slot.ready = True
            return None
        if reply.get("id") != slot.id:
            return self._fail(slot, "bad_reply")
        seconds = time.monotonic() - slot.sent
        error, reward = reply.get("error"), reply.get("reward")
        if error == "memory":
            return self._fail(slot, "memory")
        if error in ("bad_answer", "unusable", "crashed", "bad_reply"):
            slot.task = None
            return Outcome(0.0, error, str(reply.get("message")), seconds)
        # Not a number, true, infinite, outside [0, 1]: a verifier at fault must not become a reward.
        if isinstance(reward, bool) or not isinstance(reward, int | float) or not 0.0 <= reward <= 1.0:
            return self._fail(slot, "bad_reply")
        slot.task = None
        return Outcome(float(reward), None, "", seconds)

    def _fail(self, slot: _Slot, error: VerifyError) -> Outcome | None:
        """Put an end to a slot. The outcome of its request if it had one; else it failed to start."""
        if slot.task is None:
            self._start_failed(slot)
            return None
        self._remove(slot)
        return Outcome(0.0, error, "", time.monotonic() - slot.sent)

    def _start_failed(self, slot: _Slot) -> None:
        self._failed_starts += 1
        last_words = slot.process.last_words()
        self._remove(slot)
        if self._failed_starts >= _START_TRIES:
            raise VerifierUnavailableError(f"the verifier's subprocess does not start: {last_words or 'it is silent'}")

    def _remove(self, slot: _Slot) -> None:
        self._slots.remove(slot)
        slot.process.kill()
