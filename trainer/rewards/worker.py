"""The subprocess that verifies: python -P -m trainer.rewards.worker --parent PID --memory-bytes N

Reads one JSON object a line on stdin and answers each with one on what was its stdout; whatever else is printed goes
to stderr. It is made to be killed: by its parent at a time limit, by the kernel when its parent dies (a killed
trainer leaves none behind), by its limits on memory and processor time. It ends itself when stdin does.

    {"id": 7, "op": "score", "response": ..., "answer": ..., "cpu_seconds": 6}   ->  {"id": 7, "reward": 1.0}
    {"id": 8, "op": "check", "answer": ..., "cpu_seconds": 6}                    ->  {"id": 8, "reward": 0.0}
    an answer that nothing could match     ->  {"id": 7, "error": "bad_answer", "message": ...}
    out of memory, after which it exits    ->  {"id": 7, "error": "memory"}

Its first line is {"ready": true}: until then it was importing, which is not held against any item.
"""

import argparse
import ctypes
import json
import math
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

from trainer.rewards.answer_error import BadAnswerError

_PR_SET_PDEATHSIG = 1


class Verifier(NamedTuple):
    """What a worker does: judge a response, and judge a ground truth (BadAnswerError when nothing could match it)."""

    score: Callable[[str, str], float]
    check: Callable[[str], None]


def serve(load: Callable[[], Verifier]) -> None:
    """Confine this process, load the verifier within its limits, then answer requests until stdin ends."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--parent", type=int, required=True)
    arguments.add_argument("--memory-bytes", type=int, required=True)
    given = arguments.parse_args()
    _die_with(given.parent)
    replies = _own_stdout()
    _limit(given.memory_bytes)
    verifier = load()
    _reply(replies, {"ready": True})
    for line in sys.stdin.buffer:
        request = json.loads(line)
        _allow_cpu(request["cpu_seconds"])
        reply = {"id": request["id"], **_answer(request, verifier)}
        _reply(replies, reply)
        if reply.get("error") == "memory":
            return


def _answer(request: dict[str, str], verifier: Verifier) -> dict[str, object]:
    try:
        if request["op"] == "check":
            verifier.check(request["answer"])
            return {"reward": 0.0}
        return {"reward": float(verifier.score(request["response"], request["answer"]))}
    except BadAnswerError as error:
        return {"error": "bad_answer", "message": str(error)}
    except MemoryError:
        return {"error": "memory"}


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    # It may have died before the line above.
    if os.getppid() != parent:
        sys.exit(0)


def _own_stdout() -> BinaryIO:
    """The pipe to the parent, under a number that nobody prints to."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return replies


def _limit(memory_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Only stderr is written, and nobody needs more of it.
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))


def _allow_cpu(seconds: float) -> None:
    """A limit on processor time for the next item, should the parent be stopped itself and not keep the wall clock."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    allowed = math.ceil(used.ru_utime + used.ru_stime + seconds) + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (allowed if hard == resource.RLIM_INFINITY else min(allowed, hard), hard))


def _reply(replies: BinaryIO, reply: dict[str, object]) -> None:
    replies.write(json.dumps(reply).encode() + b"\n")
    replies.flush()


def load_math() -> Verifier:
    # sympy is imported here, within the limits, and not by whoever needs `serve` alone.
    from trainer.rewards import math_answer

    math_answer.self_test()
    return Verifier(math_answer.score, math_answer.check)


if __name__ == "__main__":
    serve(load_math)
