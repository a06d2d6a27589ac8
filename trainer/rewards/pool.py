"""Rewards for the many responses of a training step, without a way for any of them to hang, crash or bloat the trainer.

Cheap kinds are judged here, the others go to killable subprocesses (`dispatch`). An item whose verification fails has
reward 0 and an error, and the errors are counted.
"""

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from trainer.rewards.answer_error import BadAnswerError
from trainer.rewards.dispatch import Dispatcher, Outcome, VerifyError
from trainer.rewards.kinds import InProcess, check_options, kind_named
from trainer.rewards.process import COMMAND

DEFAULT_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class VerifyItem:
    response: str
    answer: str
    kind: str | None = None
    """None: the pool's."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The reward of one response: finite, in [0, 1], and 0 with every error."""

    reward: float
    error: VerifyError | None
    seconds: float
    """Wall-clock time that the verification took."""


class VerifierPool:
    """Scores responses with `kind`, or with the kind that an item names.

    `timeout_seconds` is the wall-clock limit of one item, after which its subprocess is killed; `memory_bytes` limits
    a subprocess's address space; a response or answer over `max_input_chars` is not verified at all (`too_long`).
    `options` are the options of `kind`. One caller at a time: a second one waits. The subprocesses start at once, in
    the background, when the kind needs any.
    """

    def __init__(
        self,
        kind: str,
        workers: int = 2,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        memory_bytes: int = 2 * 2**30,
        max_input_chars: int = 100_000,
        options: Mapping[str, object] | None = None,
        *,
        command: tuple[str, ...] = COMMAND,
    ) -> None:
        if workers < 1 or not timeout_seconds > 0 or memory_bytes < 1 or max_input_chars < 1:
            raise ValueError("workers, timeout_seconds, memory_bytes and max_input_chars must be above 0")
        check_options(kind, options or {})
        self._kind = kind
        self._options = dict(options or {})
        self._max_input_chars = max_input_chars
        self._dispatcher = Dispatcher(command, workers, memory_bytes)
        self._timeout_seconds = timeout_seconds
        self._closed = False
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        """Errors of `score` so far, by name: `reward/timeouts` is counts["timeout"]."""
        if kind_named(kind).in_process is None:
            self._dispatcher.start()

    def score(self, items: Sequence[VerifyItem], timeout_seconds: float | None = None) -> list[Verdict]:
        """A verdict for each item, in their order. `timeout_seconds` in place of the pool's.
        VerifierUnavailableError when subprocesses cannot be started."""
        outcomes: dict[int, Outcome] = {}
        requests: dict[int, dict[str, object]] = {}
        for index, item in enumerate(items):
            kind = item.kind or self._kind
            verifier = kind_named(kind).in_process
            if max(len(item.response), len(item.answer)) > self._max_input_chars:
                outcomes[index] = Outcome(0.0, "too_long", "", 0.0)
            elif verifier is None:
                requests[index] = {"op": "score", "response": item.response, "answer": item.answer}
            else:
                outcomes[index] = _judge(verifier, item, self._options if kind == self._kind else {})
        outcomes.update(self._dispatch(requests, timeout_seconds or self._timeout_seconds))
        verdicts = [Verdict(one.reward, one.error, one.seconds) for _, one in sorted(outcomes.items())]
        self.counts.update(verdict.error for verdict in verdicts if verdict.error is not None)
        return verdicts

    def check_answers(self, answers: Sequence[str], kind: str | None = None) -> list[str | None]:
        """For each ground truth what is wrong with it for `kind` (None: the pool's); None when nothing is."""
        verifier = kind_named(kind or self._kind).in_process
        outcomes: dict[int, Outcome] = {}
        requests: dict[int, dict[str, object]] = {}
        for index, answer in enumerate(answers):
            if len(answer) > self._max_input_chars:
                outcomes[index] = Outcome(
                    0.0, "too_long", f"the answer is over {self._max_input_chars:,} characters", 0.0
                )
            elif verifier is None:
                requests[index] = {"op": "check", "answer": answer}
            else:
                outcomes[index] = _check(verifier, answer)
        outcomes.update(self._dispatch(requests, self._timeout_seconds))
        return [
            (one.message or f"reading the answer fails: {one.error}") if one.error else None
            for _, one in sorted(outcomes.items())
        ]

    def close(self) -> None:
        """Kill the subprocesses. The pool cannot be used afterwards; closing twice is fine."""
        with self._lock:
            self._closed = True
            self._dispatcher.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _dispatch(self, requests: Mapping[int, dict[str, object]], timeout_seconds: float) -> dict[int, Outcome]:
        with self._lock:
            if self._closed:
                raise ValueError("the verifier pool is closed")
            outcomes = self._dispatcher.run(list(requests.values()), timeout_seconds) if requests else []
        return dict(zip(requests, outcomes, strict=True))


def _judge(verifier: InProcess, item: VerifyItem, options: Mapping[str, object]) -> Outcome:
    started = time.perf_counter()
    try:
        reward = 1.0 if verifier.score(item.response, item.answer, **options) else 0.0
    except BadAnswerError as error:
        return Outcome(0.0, "bad_answer", str(error), time.perf_counter() - started)
    return Outcome(reward, None, "", time.perf_counter() - started)


def _check(verifier: InProcess, answer: str) -> Outcome:
    try:
        verifier.check(answer)
    except BadAnswerError as error:
        return Outcome(0.0, "bad_answer", str(error), 0.0)
    return Outcome(0.0, None, "", 0.0)
