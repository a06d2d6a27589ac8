"""The subprocess that verifies: python -P -m trainer.rewards.worker --parent PID --memory-bytes N

Reads one JSON object a line on stdin and answers each with one on what was its stdout; whatever else is printed goes
to stderr. It is made to be killed: by its parent at a time limit, by the kernel when its parent dies (a killed
trainer leaves none behind), by its limits on memory and processor time. It ends itself when stdin does.

    {"kind": "math", "options": {}}  is the first line: what to load          ->  {"ready": true}
    {"id": 7, "op": "score", "kind": ..., "response": ..., "answer": ..., "prompt": ..., "metadata": ...,
     "options": ..., "cpu_seconds": 6}                                        ->  {"id": 7, "reward": 1.0}
    {"id": 8, "op": "check", ...}  the same without a response                ->  {"id": 8, "reward": 0.0}
    {"id": 9, "op": "load", ...}   whether the kind can be had at all         ->  {"id": 9, "reward": 0.0}
    an answer that nothing could match         ->  {"id": 7, "error": "bad_answer", "message": ...}
    a verifier that cannot be had              ->  {"id": 7, "error": "unusable", "message": ...}
    one that raised, or gave no such number    ->  {"id": 7, "error": "crashed" or "bad_reply", "message": ...}
    out of memory, after which it exits        ->  {"id": 7, "error": "memory"}

Until it is ready it was importing, which is not held against any item.
"""

import argparse
import ctypes
import json
import math
import numbers
import os
import resource
import signal
import stat
import sys
from collections.abc import Callable, Mapping
from typing import BinaryIO, NamedTuple

from trainer.rewards.answer_error import BadAnswerError
from trainer.rewards.verifier_error import UnusableVerifierError, VerifierCrashedError
from trainer.spec.reward import parse_kind

_PR_SET_PDEATHSIG = 1
_MAX_STDERR_BYTES = 2**20
_MAX_MESSAGE_CHARS = 1000
_MAX_PROCESSES = 64


class Request(NamedTuple):
    """One thing to judge. `prompt` is the row's question, `metadata` the row's, None where it has none."""

    kind: str
    response: str
    answer: str
    prompt: str
    metadata: Mapping[str, object] | None
    options: Mapping[str, object]


def _nothing(_request: Request) -> None:
    pass


class Verifier(NamedTuple):
    """What a worker does. `check`: BadAnswerError when no response could match; `load`: UnusableVerifierError when the
    kind cannot be had. `score` may raise both, and VerifierCrashedError for code that is not ours."""

    score: Callable[[Request], float]
    check: Callable[[Request], object] = _nothing
    load: Callable[[Request], object] = _nothing


def serve(load: Callable[[str, Mapping[str, object]], Verifier]) -> None:
    """Confine this process, load the verifier of a kind within its limits, then answer requests until stdin ends."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--parent", type=int, required=True)
    arguments.add_argument("--memory-bytes", type=int, required=True)
    arguments.add_argument("--sandboxed", action="store_true", help="the parent is the sandbox, and dies with its own")
    given = arguments.parse_args()
    _die_with(1 if given.sandboxed else given.parent)
    replies = _own_stdout()
    _limit(given.memory_bytes)
    if given.sandboxed:
        # Of the sandbox's own user space; the kernel does not hold root to it.
        resource.setrlimit(resource.RLIMIT_NPROC, (_MAX_PROCESSES, _MAX_PROCESSES))
    first = sys.stdin.buffer.readline()
    if not first:
        return
    wanted = json.loads(first)
    verifier = load(wanted["kind"], wanted["options"])
    _reply(replies, {"ready": True})
    for line in sys.stdin.buffer:
        request = json.loads(line)
        _allow_cpu(request["cpu_seconds"])
        reply = {"id": request["id"], **_answer(request, verifier)}
        _forget_old_words()
        _reply(replies, reply)
        if reply.get("error") == "memory":
            return


def _answer(given: Mapping[str, object], verifier: Verifier) -> dict[str, object]:
    request = Request(**{"response": "", **{name: given[name] for name in Request._fields if name in given}})  # type: ignore[arg-type]
    try:
        match given["op"]:
            case "load":
                verifier.load(request)
                return {"reward": 0.0}
            case "check":
                verifier.check(request)
                return {"reward": 0.0}
        return _reward(verifier.score(request))
    except BadAnswerError as error:
        return _error("bad_answer", error)
    except UnusableVerifierError as error:
        return _error("unusable", error)
    except VerifierCrashedError as error:
        return _error("crashed", error)
    except MemoryError:
        return {"error": "memory"}


def _reward(value: object) -> dict[str, object]:
    # True is no number here: what answers yes or no should say what a yes is worth.
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0.0 <= float(value) <= 1.0:
        return _error("bad_reply", f"the verifier gave {repr(value)[:60]}, not a number from 0 to 1")
    return {"reward": float(value)}


def _error(name: str, message: object) -> dict[str, object]:
    return {"error": name, "message": str(message)[:_MAX_MESSAGE_CHARS]}


def _die_with(parent: int) -> None:
    # Whoever signals every process at once means the trainer, which still needs its verdicts.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
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
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MAX_STDERR_BYTES, _MAX_STDERR_BYTES))


def _allow_cpu(seconds: float) -> None:
    """A limit on processor time for the next item, should the parent be stopped itself and not keep the wall clock."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    allowed = math.ceil(used.ru_utime + used.ru_stime + seconds) + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (allowed if hard == resource.RLIM_INFINITY else min(allowed, hard), hard))


def _forget_old_words() -> None:
    """A verifier that prints a little for every item must not reach the limit on what it writes."""
    status = os.fstat(2)
    if stat.S_ISREG(status.st_mode) and status.st_size > _MAX_STDERR_BYTES // 2:
        os.ftruncate(2, 0)
        os.lseek(2, 0, os.SEEK_SET)


def _reply(replies: BinaryIO, reply: dict[str, object]) -> None:
    replies.write(json.dumps(reply).encode() + b"\n")
    replies.flush()


def load(kind: str, options: Mapping[str, object]) -> Verifier:
    # Imported here, within the limits, and not by whoever needs `serve` alone.
    match parse_kind(kind).family:
        case "math":
            return _load_math()
        case "reasoning_gym":
            from trainer.rewards import reasoning_gym_task

            return reasoning_gym_task.load()
        case "plugin":
            from trainer.rewards import plugin

            return plugin.load(parse_kind(kind).name)
        case "python":
            from trainer.rewards import user_code

            return user_code.load(str(options["code"]))
        case family:
            raise ValueError(f"{family} does not run in a subprocess")


def _load_math() -> Verifier:
    from trainer.rewards import math_answer

    math_answer.self_test()
    return Verifier(
        lambda request: float(math_answer.score(request.response, request.answer)),
        lambda request: math_answer.check(request.answer),
    )


if __name__ == "__main__":
    serve(load)
