"""What can be wrong with a verifier that is not ours."""


class UnusableVerifierError(ValueError):
    """It cannot be had: it is not installed, not configured, or its code does not load. Trying again gives the same."""


class VerifierCrashedError(Exception):
    """Its code raised; its text is what it raised."""
