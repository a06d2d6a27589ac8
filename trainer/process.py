"""The edge of a trainer process: events on the real stdout, everything else on stderr, each error as an exit code."""

import logging
import os
import sys
import traceback
from collections.abc import Callable
from typing import TextIO

from trainer.errors import CheckpointError, EngineError, RunError
from trainer.event_stream import EventStream
from trainer.rewards import VerifierUnavailableError
from trainer.spec.events import DISK_FULL, EXIT_INFRASTRUCTURE_ERROR, EXIT_USER_ERROR, STORAGE_FULL, Failed

logger = logging.getLogger("trainer")

EVIDENCE_LINES = 20


def run_process(work: Callable[[EventStream], int], *, rank: int = 0) -> int:
    """The exit code of `work`, or of what it raised, which is emitted as a `failed` event. Of several ranks only the
    first logs what all of them would."""
    events = EventStream(_claim_stdout())
    level = logging.ERROR if rank else logging.INFO
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    # It tells of every request by its whole address, and that of an http verifier may hold a password.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # Threads that spin while they wait for each other bring a busy machine to a crawl; OpenMP reads this once.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        return work(events)
    except RunError as error:
        return _fail(events, "user", error.code, error.message, step=error.step, evidence=error.evidence)
    except CheckpointError as error:
        return _fail(events, "infrastructure", "checkpoint_damaged", str(error))
    except VerifierUnavailableError as error:
        return _fail(events, "infrastructure", "verifier_unavailable", str(error))
    except EngineError as error:
        return _fail(events, "infrastructure", "engine_failed", str(error))
    except OSError as error:
        code = DISK_FULL if error.errno in STORAGE_FULL else "operating_system"
        return _fail(events, "infrastructure", code, str(error))
    except Exception as error:  # noqa: BLE001 - the process's outermost boundary: whatever it was, the run's reader hears it
        return _fail(
            events,
            "infrastructure",
            "internal_error",
            f"{type(error).__name__}: {error}",
            evidence=traceback.format_exc().splitlines()[-EVIDENCE_LINES:],
        )


def _fail(
    events: EventStream,
    kind: str,
    code: str,
    message: str,
    *,
    step: int | None = None,
    evidence: list[str] | None = None,
) -> int:
    for line in evidence or []:
        logger.error("%s", line)
    logger.error("%s: %s", code, message)
    events.emit(Failed, kind=kind, code=code, message=message, step=step, evidence=evidence or [])
    return EXIT_USER_ERROR if kind == "user" else EXIT_INFRASTRUCTURE_ERROR


def _claim_stdout() -> TextIO:
    """Keep the real stdout for events alone: whatever else prints there goes to stderr."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return events
