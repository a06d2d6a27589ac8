"""The metrics of each step's groups, which only the advantage estimator sees, on their way to the followed run.

A JSON line per training step, in their order: verl's synchronous trainer asks for advantages once a step, and does not
say which one it is. The estimator writes a step's line before verl logs the step.
"""

import json
from pathlib import Path

from trainer.spec.events import Metrics


def append(file: Path, metrics: Metrics) -> None:
    with file.open("a") as log:
        log.write(json.dumps(metrics) + "\n")


def read(file: Path, nth: int) -> Metrics:
    """The line of the nth step of this attempt (the first is 1); no metrics where it is not there."""
    lines = file.read_text().splitlines() if file.exists() else []
    metrics: Metrics = json.loads(lines[nth - 1]) if 1 <= nth <= len(lines) else {}
    return metrics
