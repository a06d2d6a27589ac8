"""`python`: the user's own `def score(response, answer, metadata)`, in a subprocess inside the operator's sandbox.

Nothing here confines it; `trainer.rewards.sandbox` does, around the whole process.
"""

import signal
from typing import NoReturn

from trainer.rewards.foreign_code import call
from trainer.rewards.verifier_error import UnusableVerifierError, VerifierCrashedError
from trainer.rewards.worker import Request, Verifier

LOAD_SECONDS = 20


def load(code: str) -> Verifier:
    """The verifier; one that says why of every request, when the code does not load."""
    namespace: dict[str, object] = {"__name__": "reward"}
    problem = None
    signal.signal(signal.SIGALRM, _too_slow)
    signal.alarm(LOAD_SECONDS)
    try:
        call(lambda: exec(compile(code, "reward.options.code", "exec"), namespace))  # noqa: S102 - what it is for
        if not callable(namespace.get("score")):
            problem = "it defines no function score(response, answer, metadata)"
    except VerifierCrashedError as error:
        problem = str(error)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def known(_request: Request) -> None:
        if problem is not None:
            raise UnusableVerifierError(f"reward.options.code does not load: {problem}")

    def score(request: Request) -> float:
        known(request)
        metadata = None if request.metadata is None else dict(request.metadata)
        value: float = call(namespace["score"], request.response, request.answer, metadata)  # type: ignore[arg-type, assignment]
        return value

    return Verifier(score, load=known)


def _too_slow(_number: int, _frame: object) -> NoReturn:
    raise VerifierCrashedError(f"it takes longer than {LOAD_SECONDS} s")
