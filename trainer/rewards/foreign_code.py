"""Calling a scorer that is not ours, inside the verifier's subprocess: whatever it raises is a verdict on itself."""

from collections.abc import Callable

from trainer.rewards.verifier_error import VerifierCrashedError


def call(function: Callable[..., object], *arguments: object, **options: object) -> object:
    """What it returns. VerifierCrashedError with what it raised; a MemoryError stays one."""
    try:
        return function(*arguments, **options)
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the boundary to code that is not ours
        raise VerifierCrashedError(f"{type(error).__name__}: {error}") from None
