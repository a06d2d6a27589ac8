"""What the operator allows a run's verifiers beyond this package's own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trainer.rewards.verifier_error import UnusableVerifierError
from trainer.spec.outgoing import Network


@dataclass(frozen=True)
class Permits:
    http: Mapping[str, str] = field(default_factory=dict)
    """Name -> URL of each endpoint that `http:NAME` may name."""
    networks: tuple[Network, ...] = ()
    """Beyond the public ones, where such an endpoint's name may lead (trainer.spec.outgoing)."""
    signing_secret: str | None = field(default=None, repr=False)
    """What calls to it are signed with; None: they are not."""
    sandbox: str | None = None
    """What confines the user's code of kind `python`; None: it is refused."""
    private: tuple[Path, ...] = ()
    """Folders that the sandbox must hide, as is proved before it is used: the run's own, the home."""

    def url_of(self, name: str) -> str:
        """UnusableVerifierError when there is no such endpoint."""
        if name not in self.http:
            known = ", ".join(sorted(self.http)) or "none"
            raise UnusableVerifierError(f"no http verifier {name!r} is configured here; there are: {known}")
        return self.http[name]


NOTHING = Permits()
