"""Verdicts on samples that have ended, in a thread beside the sampling: a verifier may take its seconds."""

import queue
import threading
from collections.abc import Callable

from trainer.rewards import BadAnswerError, UnusableVerifierError, VerifierUnavailableError, verify
from trainer.spec import failpoints
from trainer.spec.events import Judged
from trainer.spec.sampling import Judgement

Done = Callable[[Judged], None]


class Judge:
    """Kinds that parse what a model wrote do so in killable subprocesses (trainer.rewards)."""

    def __init__(self) -> None:
        self._todo: queue.SimpleQueue[tuple[str, Judgement, Done]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="judge", daemon=True).start()

    def judge(self, text: str, judgement: Judgement, done: Done) -> None:
        """`done` is called with the verdict, from another thread."""
        self._todo.put((text, judgement, done))

    def _run(self) -> None:
        while True:
            text, judgement, done = self._todo.get()
            failpoints.hit("sampler.judge")
            done(_verdict(text, judgement))


def _verdict(text: str, judgement: Judgement) -> Judged:
    try:
        reward = verify(judgement.kind, text, judgement.answer, **judgement.options)
    except (BadAnswerError, UnusableVerifierError, VerifierUnavailableError, ValueError) as error:
        return Judged(reward=None, error=str(error))
    return Judged(reward=reward, error=None)
