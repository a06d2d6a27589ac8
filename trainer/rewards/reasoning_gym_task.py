"""`reasoning_gym:TASK`: the scorer that the package reasoning-gym has for one of its tasks.

It is asked as the package's own training examples ask it: with what stands in the response's last <answer> element,
else with the whole response, and the entry {question, answer, metadata} as the task generated it. Runs in the
verifier subprocesses only: the package imports sympy and a hundred scorers that parse model output.
"""

import difflib
from collections.abc import Callable
from functools import cache

from trainer.rewards.foreign_code import call
from trainer.rewards.verifier_error import UnusableVerifierError, VerifierCrashedError
from trainer.rewards.worker import Request, Verifier
from trainer.spec.reward import parse_kind


def load() -> Verifier:
    try:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
        from reasoning_gym.utils import extract_answer
    except ImportError as error:
        missing = f"reasoning_gym cannot be imported ({error}); install asym-core[reasoning-gym]"

        def refuse(_request: Request) -> float:
            raise UnusableVerifierError(missing)

        return Verifier(refuse, load=refuse)

    @cache
    def scorer(task: str) -> Callable[..., object]:
        if task not in DATASETS:
            near = difflib.get_close_matches(task, DATASETS)
            hint = f"; near it: {', '.join(near)}" if near else f"; there are: {', '.join(sorted(DATASETS))}"
            raise UnusableVerifierError(f"reasoning_gym has no task {task!r}{hint}")
        found: Callable[..., object] = reasoning_gym.get_score_answer_fn(task)
        return found

    def score(request: Request) -> float:
        answer = extract_answer(request.response)
        entry = {"question": request.prompt, "answer": request.answer, "metadata": dict(request.metadata or {})}
        value = call(scorer(parse_kind(request.kind).name), request.response if answer is None else answer, entry)
        try:
            return float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            raise VerifierCrashedError(str(error)) from None

    def known(request: Request) -> None:
        scorer(parse_kind(request.kind).name)

    return Verifier(score, load=known)
