"""Writes the run's events: one JSON object a line, each whole and at once, in the order in which things happened."""

import json
import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Literal, TextIO

from trainer.spec.events import Event, Log, Metrics

logger = logging.getLogger(__name__)


class NonFiniteMetricError(AssertionError):
    """A metric that is undefined must be None; a NaN on its way out is a bug of the trainer."""


class EventStream:
    """The one way out of the trainer. Thread-safe; a line is flushed before `emit` returns."""

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.time) -> None:
        self._out = out
        self._clock = clock
        self._lock = threading.Lock()

    def emit(self, kind: Callable[..., Event], /, **fields: object) -> None:
        event = kind(time=self._clock(), **fields)
        with self._lock:
            self._out.write(event.model_dump_json() + "\n")
            self._out.flush()

    def relay(self, line: str) -> None:
        """Pass on an event that another process has written."""
        with self._lock:
            self._out.write(line)
            self._out.flush()

    def log(
        self,
        level: Literal["info", "warning", "error"],
        code: str,
        message: str,
        *,
        step: int | None = None,
        **data: object,
    ) -> None:
        """Say something to the run's reader, on the event stream and in the log."""
        logger.log(getattr(logging, level.upper()), "%s: %s", code, message)
        self.emit(Log, level=level, code=code, message=message, step=step, data=json.loads(json.dumps(data)))


def checked(metrics: Metrics) -> Metrics:
    """The metrics unchanged, once it is sure that none is NaN or infinite. NonFiniteMetricError otherwise."""
    for key, value in metrics.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise NonFiniteMetricError(f"metric {key} is {value}; what is undefined must be None")
    return metrics
