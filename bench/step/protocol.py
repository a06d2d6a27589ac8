"""How the driver and a side talk. The side says `Ready` when it has loaded; then each line on its stdin asks for one
step and is answered by one `StepReport` line; the end of stdin ends it. Between steps it waits in `read` and costs
nothing."""

import json
import os
import sys
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class Ready:
    side: str
    device: str
    parameters: int
    memory_bytes: int
    """Held after loading, before the first step: resident memory, or allocated GPU memory."""
    versions: dict[str, str]


@dataclass(frozen=True)
class StepReport:
    seconds: float
    generated_tokens: int
    prompt_tokens: int
    """Counted once for every rollout."""
    peak_memory_bytes: int
    """The most this process has ever held."""
    updates: int
    """Optimizer updates since the process began."""
    loss: float
    grad_norm: float
    reward_mean: float
    weights_changed: bool
    phases: dict[str, float] = field(default_factory=dict)
    """Seconds of parts of the step, where the side knows them."""


class Channel:
    """A side's end. Takes the real stdout for itself: whatever else prints there goes to stderr from now on."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def send(self, message: Ready | StepReport) -> None:
        self._out.write(json.dumps(asdict(message)) + "\n")
        self._out.flush()

    def step_wanted(self) -> bool:
        """Waits for the driver. False: it wants no more."""
        return bool(sys.stdin.readline())
