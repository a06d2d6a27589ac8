"""`plugin:NAME`: a verifier that another package installed, found by its entry point of the group `asym.verifiers`.

The entry point is a module or an object with `score(response, answer, *, metadata=None, **options) -> float` and, where
it likes, `check(answer)`, which raises when no response could match. It runs in the verifier subprocesses only.
"""

from importlib.metadata import entry_points

from trainer.rewards.answer_error import BadAnswerError
from trainer.rewards.foreign_code import call
from trainer.rewards.verifier_error import UnusableVerifierError, VerifierCrashedError
from trainer.rewards.worker import Request, Verifier

GROUP = "asym.verifiers"


def load(name: str) -> Verifier:
    """The verifier; one that says why of every request, when it cannot be had."""
    try:
        plugin = _plugin(name)
    except UnusableVerifierError as error:
        reason = str(error)

        def refuse(_request: Request) -> float:
            raise UnusableVerifierError(reason)

        return Verifier(refuse, refuse, refuse)

    def score(request: Request) -> float:
        metadata = None if request.metadata is None else dict(request.metadata)
        value: float = call(plugin.score, request.response, request.answer, metadata=metadata, **request.options)  # type: ignore[attr-defined, assignment]
        return value

    def check(request: Request) -> None:
        if hasattr(plugin, "check"):
            try:
                call(plugin.check, request.answer)
            except VerifierCrashedError as error:
                raise BadAnswerError(str(error)) from None

    return Verifier(score, check)


def _plugin(name: str) -> object:
    installed = {point.name: point for point in entry_points(group=GROUP)}
    if name not in installed:
        listed = ", ".join(sorted(installed)) or "none"
        raise UnusableVerifierError(f"no verifier plugin {name!r} is installed here; there are: {listed}")
    try:
        plugin = call(installed[name].load)
    except VerifierCrashedError as error:
        raise UnusableVerifierError(f"the verifier plugin {name} does not load: {error}") from None
    if not callable(getattr(plugin, "score", None)):
        raise UnusableVerifierError(f"the verifier plugin {name} ({installed[name].value}) has no function score")
    return plugin
