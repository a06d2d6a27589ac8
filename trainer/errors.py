"""What ends a run, told apart by whose hands it is in."""


class RunError(Exception):
    """The run cannot go on, and running it again would end the same: the spec, the data or the run's own numbers.

    `code` is stable, `message` says what was wrong, where, and what to do; `evidence` holds the lines that show it.
    """

    def __init__(self, code: str, message: str, *, step: int | None = None, evidence: list[str] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.step = step
        self.evidence = evidence or []


class CheckpointError(Exception):
    """A checkpoint is missing, incomplete or not what its manifest says."""


class EngineError(Exception):
    """A generation engine's process broke; another attempt may go well."""
