"""Rewards for the many responses of a training step, without a way for any of them to hang, crash or bloat the trainer.

Cheap kinds are judged here, the others go to killable subprocesses (`dispatch`). An item whose verification fails has
reward 0 and an error, and the errors are counted.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from pydantic import JsonValue

from trainer.rewards import sandbox
from trainer.rewards.answer_error import BadAnswerError
from trainer.rewards.dispatch import Dispatcher, Outcome, VerifyError
from trainer.rewards.http_endpoint import HttpEndpoint
from trainer.rewards.kinds import checked_options, in_process
from trainer.rewards.permits import NOTHING, Permits
from trainer.rewards.process import COMMAND
from trainer.rewards.regex import SlowPatternError
from trainer.rewards.verifier_error import UnusableVerifierError
from trainer.spec.reward import HttpOptions, parse_kind, row_verifier

DEFAULT_TIMEOUT_SECONDS = 5.0
_LOAD_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class VerifyItem:
    response: str
    answer: str
    kind: str | None = None
    """None: the pool's."""
    options: Mapping[str, object] | None = None
    """Laid over the pool's where the kind is the pool's."""
    prompt: str = ""
    """The row's question, for verifiers that look at it."""
    metadata: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The reward of one response: finite, in [0, 1], and 0 with every error."""

    reward: float
    error: VerifyError | None
    seconds: float
    """Wall-clock time that the verification took."""
    message: str = ""
    """What the error was, where more is known than its name."""


class VerifierPool:
    """Scores responses with `kind`, or with the kind that an item names.

    `timeout_seconds` is the wall-clock limit of one item, after which its subprocess is killed (of one request to an
    http endpoint); `memory_bytes` limits a subprocess's address space; a response or answer over `max_input_chars` is
    not verified at all (`too_long`). `options` are the options of `kind`, `permits` what the operator allows beyond
    this package's verifiers. One caller at a time: a second one waits. The subprocesses start at once, in the
    background, when the kind needs any; those of other kinds when the first item of theirs comes.
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
        permits: Permits = NOTHING,
        command: tuple[str, ...] = COMMAND,
    ) -> None:
        """ValueError for a kind or options that there are not; UnusableVerifierError for what `permits` does not
        hold; VerifierUnavailableError when the sandbox does not hold."""
        if workers < 1 or not timeout_seconds > 0 or memory_bytes < 1 or max_input_chars < 1:
            raise ValueError("workers, timeout_seconds, memory_bytes and max_input_chars must be above 0")
        self._kind = kind
        self._options = checked_options(kind, options or {})
        self._workers = workers
        self._memory_bytes = memory_bytes
        self._max_input_chars = max_input_chars
        self._command = command
        self._permits = permits
        self._dispatchers: dict[str, Dispatcher | HttpEndpoint] = {}
        self._timeout_seconds = timeout_seconds
        self._closed = False
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        """Errors of `score` so far, by name: `reward/timeouts` is counts["timeout"]."""
        if in_process(kind) is None:
            self._dispatcher(kind).start()

    def score(self, items: Sequence[VerifyItem], timeout_seconds: float | None = None) -> list[Verdict]:
        """A verdict for each item, in their order. `timeout_seconds` in place of the pool's.
        ValueError for a kind or options that there are not, VerifierUnavailableError when subprocesses cannot be
        started."""
        outcomes = self._run("score", items, timeout_seconds or self._timeout_seconds)
        verdicts = [Verdict(one.reward, one.error, one.seconds, one.message) for one in outcomes]
        self.counts.update(verdict.error for verdict in verdicts if verdict.error is not None)
        return verdicts

    def check_answers(self, answers: Sequence[str], kind: str | None = None) -> list[str | None]:
        """For each ground truth what is wrong with it for `kind` (None: the pool's); None when nothing is."""
        return self.check_items([VerifyItem("", answer, kind) for answer in answers])

    def check_items(self, items: Sequence[VerifyItem]) -> list[str | None]:
        """For each item what is wrong with its answer; None when nothing is. The responses are not looked at."""
        outcomes = self._run("check", items, self._timeout_seconds)
        return [(one.message or f"reading the answer fails: {one.error}") if one.error else None for one in outcomes]

    def require(self, kinds: Sequence[str]) -> None:
        """UnusableVerifierError when one of these kinds cannot be had here."""
        for one in self._run("load", [VerifyItem("", "", kind) for kind in kinds], _LOAD_SECONDS):
            if one.error is not None:
                raise UnusableVerifierError(one.message or f"loading it fails: {one.error}")

    def _run(self, op: str, items: Sequence[VerifyItem], timeout_seconds: float) -> list[Outcome]:
        outcomes: dict[int, Outcome] = {}
        requests: dict[str, dict[int, dict[str, object]]] = {}
        for index, item in enumerate(items):
            kind, options = self._verifier_of(item)
            verifier = in_process(kind)
            if max(len(item.response), len(item.answer)) > self._max_input_chars:
                what = "response" if len(item.response) > self._max_input_chars else "answer"
                message = f"the {what} is over {self._max_input_chars:,} characters"
                outcomes[index] = Outcome(0.0, "too_long", message, 0.0)
            elif verifier is None:
                requests.setdefault(program_of(kind), {})[index] = {
                    "op": op,
                    "kind": kind,
                    "response": item.response,
                    "answer": item.answer,
                    "prompt": item.prompt,
                    "metadata": item.metadata,
                    "options": options,
                }
            elif op == "score":
                outcomes[index] = _in_process(verifier.score, item.response, item.answer, options=options)
            elif op == "check":
                outcomes[index] = _in_process(verifier.check, item.answer, options=options)
            else:
                outcomes[index] = Outcome(0.0, None, "", 0.0)
        with self._lock:
            if self._closed:
                raise ValueError("the verifier pool is closed")
            for asked in requests.values():
                kind = str(next(iter(asked.values()))["kind"])
                answered = self._dispatcher(kind).run(list(asked.values()), timeout_seconds)
                outcomes.update(zip(asked, answered, strict=True))
        return [outcome for _, outcome in sorted(outcomes.items())]

    def _verifier_of(self, item: VerifyItem) -> tuple[str, Mapping[str, JsonValue]]:
        if item.kind is None and item.options is None:
            return self._kind, self._options
        return row_verifier(self._kind, self._options, item.kind, item.options)

    def _dispatcher(self, kind: str) -> Dispatcher | HttpEndpoint:
        """The subprocesses or the endpoint of a kind, not started before they are needed."""
        program = program_of(kind)
        if program not in self._dispatchers:
            self._dispatchers[program] = self._make_dispatcher(kind)
        return self._dispatchers[program]

    def _make_dispatcher(self, kind: str) -> Dispatcher | HttpEndpoint:
        # Kinds with options of this sort are the job's: a row cannot name them.
        options = self._options if kind == self._kind else {}
        family, name = parse_kind(kind)
        if family == "http":
            given = HttpOptions.model_validate(options)
            url = self._permits.url_of(name)
            return HttpEndpoint(
                name,
                url,
                batch_size=given.batch_size,
                retries=given.retries,
                networks=self._permits.networks,
                signing_secret=self._permits.signing_secret,
            )
        command = self._command
        if family == "python":
            if self._permits.sandbox is None:
                raise UnusableVerifierError(
                    "reward.kind python runs the job's own code, which needs a sandbox, and none is configured here "
                    "(ASYM_SANDBOX=bubblewrap)"
                )
            sandbox.prove(self._permits.private)
            command = sandbox.command("-m", "trainer.rewards.worker", "--sandboxed")
        return Dispatcher(command, self._workers, self._memory_bytes, {"kind": kind, "options": options})

    def close(self) -> None:
        """Kill the subprocesses. The pool cannot be used afterwards; closing twice is fine."""
        with self._lock:
            self._closed = True
            for dispatcher in self._dispatchers.values():
                dispatcher.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def program_of(kind: str) -> str:
    """Which kinds share their subprocesses: all tasks of reasoning_gym."""
    family, _ = parse_kind(kind)
    return family if family == "reasoning_gym" else kind


def _in_process(function: Callable[..., bool | None], *texts: str, options: Mapping[str, JsonValue]) -> Outcome:
    started = time.perf_counter()
    try:
        reward = 1.0 if function(*texts, **options) else 0.0
    except BadAnswerError as error:
        return Outcome(0.0, "bad_answer", str(error), time.perf_counter() - started)
    except SlowPatternError:
        return Outcome(0.0, "timeout", "", time.perf_counter() - started)
    return Outcome(reward, None, "", time.perf_counter() - started)
