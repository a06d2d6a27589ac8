"""A verifier subprocess that does what its response tells it to: run by the tests of the pool."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from trainer.rewards.answer_error import BadAnswerError
from trainer.rewards.worker import Verifier, serve


def score(response: str, answer: str) -> float:
    match response:
        case "hang":
            while True:
                pass
        case "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
            while True:
                signal.pause()
        case "multiply":
            return float(7 ** (10**9) % 2)  # one long operation of the interpreter, which no signal handler interrupts
        case "exit":
            os._exit(0)
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "raise":
            raise KeyError("a verifier's bug")
        case "give nan" | "give inf" | "give -inf" | "give 2" | "give -1":
            return float(response.removeprefix("give "))
        case "give nothing":
            return None  # type: ignore[return-value]
        case "give text":
            return "1.0"  # type: ignore[return-value]
        case "give true":
            return True
        case "hog":
            hoard = []
            while True:
                hoard.append(bytearray(2**24))
        case "chatter":
            for line in range(10_000):
                print("the verifier thinks aloud", line)
            return 1.0
        case "forge":
            for descriptor in range(3, 64):
                _write(descriptor, b"not JSON at all\n")
            return 1.0
        case "forge the reward":
            for descriptor in range(3, 64):
                _write(descriptor, b'{"id": 999999, "reward": 1.0}\n')
            return 1.0
        case "flood":
            for descriptor in range(3, 64):
                _write(descriptor, b"x" * 60_000)
                _write(descriptor, b"x" * 60_000)
            return 1.0
        case "child":
            child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
            Path(answer).write_text(str(child.pid))
            while True:
                signal.pause()
        case "meet":
            mine, other = (Path(path) for path in answer.split("|"))
            mine.touch()
            while not other.exists():
                time.sleep(0.01)
            return 1.0
    return 1.0 if response == answer else 0.0


def check(answer: str) -> None:
    if not answer:
        raise BadAnswerError("the answer is empty")
    score(answer, "")


def _write(descriptor: int, data: bytes) -> None:
    try:
        os.write(descriptor, data)
    except OSError:
        return


if __name__ == "__main__":
    serve(
        lambda kind, options: Verifier(
            lambda request: score(request.response, request.answer), lambda request: check(request.answer)
        )
    )
