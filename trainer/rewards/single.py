"""Judging a single response: the function that other programs call.

Kinds that need a subprocess share one, started when it is first needed, so a call is as safe as the pool's: it
returns within the time limit whatever the response is.
"""

import atexit
import json
import os
import threading
from collections.abc import Mapping

from pydantic import JsonValue

from trainer.rewards.answer_error import BadAnswerError
from trainer.rewards.kinds import checked_options, in_process
from trainer.rewards.pool import DEFAULT_TIMEOUT_SECONDS, VerifierPool, VerifyItem
from trainer.rewards.regex import SlowPatternError
from trainer.rewards.verifier_error import UnusableVerifierError

MAX_INPUT_CHARS = 100_000

_lock = threading.Lock()
_pools: dict[tuple[int, str, str], VerifierPool] = {}


def verify(kind: str, response: str, answer: str, **options: object) -> float:
    """1.0 when the response gives the answer, else 0.0: also when the verification takes too long, crashes, or either
    text is over `MAX_INPUT_CHARS`.

    Options: those of the kind (trainer.spec.reward), and for kinds that run in a subprocess `timeout_seconds` (5).
    ValueError for an unknown kind or option, and for an answer that no response could match; TypeError when response
    or answer is not text.
    """
    if not isinstance(response, str) or not isinstance(answer, str):
        raise TypeError(f"response and answer must be text, got {type(response).__name__}, {type(answer).__name__}")
    timeout = _take_timeout(kind, options)
    given = checked_options(kind, options)
    verifier = in_process(kind)
    if max(len(response), len(answer)) > MAX_INPUT_CHARS:
        return 0.0
    if verifier is not None:
        try:
            return 1.0 if verifier.score(response, answer, **given) else 0.0
        except SlowPatternError:
            return 0.0
    verdict = _shared_pool(kind, given).score([VerifyItem(response, answer)], timeout)[0]
    if verdict.error == "bad_answer":
        raise BadAnswerError(verdict.message)
    if verdict.error == "unusable":
        raise UnusableVerifierError(verdict.message)
    return verdict.reward


def check_answer(kind: str, answer: str, **options: object) -> str | None:
    """What is wrong with a ground truth of this kind; None when nothing is."""
    given = checked_options(kind, options)
    verifier = in_process(kind)
    if len(answer) > MAX_INPUT_CHARS:
        return f"the answer is over {MAX_INPUT_CHARS:,} characters"
    if verifier is None:
        return _shared_pool(kind, given).check_answers([answer])[0]
    try:
        verifier.check(answer, **given)
    except BadAnswerError as error:
        return str(error)
    return None


def _take_timeout(kind: str, options: dict[str, object]) -> float:
    if in_process(kind) is not None or "timeout_seconds" not in options:
        return DEFAULT_TIMEOUT_SECONDS
    seconds = options.pop("timeout_seconds")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < float("inf"):
        raise ValueError(f"timeout_seconds must be a number above 0, got {seconds!r}")
    return float(seconds)


def _shared_pool(kind: str, options: Mapping[str, JsonValue]) -> VerifierPool:
    """One pool for each kind and its options. A forked process has none of its parent's: pipes cannot be shared."""
    key = (os.getpid(), kind, json.dumps(options, sort_keys=True))
    with _lock:
        if key not in _pools:
            _pools[key] = VerifierPool(kind, workers=1, max_input_chars=MAX_INPUT_CHARS, options=options)
        return _pools[key]


def _close_pools() -> None:
    for (pid, *_), pool in _pools.items():
        if pid == os.getpid():
            pool.close()


atexit.register(_close_pools)
