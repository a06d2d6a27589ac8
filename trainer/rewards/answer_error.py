"""The one error that a verifier raises."""


class BadAnswerError(ValueError):
    """The ground truth is at fault: no response could ever match it."""
