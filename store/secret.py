"""The server's secret, with which API keys are hashed: ASYM_SECRET, or a file in the home that the first start makes.

A copy of the database alone then tells nobody whether a key is one of its keys. Without the secret every key made with
it is lost, so it belongs into the backup, apart from the database's.
"""

import hashlib
import hmac
import os
import secrets
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from store.errors import SettingsError
from store.settings import Settings

_BYTES = 32
_SHORTEST = 16


@dataclass(frozen=True)
class ServerSecret:
    """Never shown: neither its repr nor anything it makes holds it."""

    _value: bytes = field(repr=False)

    @property
    def id(self) -> str:
        """Tells secrets apart: 16 hexadecimal digits, of which nobody gets back to the secret."""
        return self.hmac("id", "")[:16]

    def hmac(self, purpose: str, message: str) -> str:
        """HMAC-SHA-256 of the message in hexadecimal, under a key of its own for each purpose."""
        derived = hmac.digest(self._value, f"asym/{purpose}".encode(), "sha256")
        return hmac.new(derived, message.encode(), hashlib.sha256).hexdigest()


def server_secret(settings: Settings) -> ServerSecret:
    """The secret of this platform; the first call on a home without one makes it. SettingsError when it is no secret.

    Processes that start at the same moment get the same one. API processes on several machines share ASYM_SECRET.
    """
    if settings.secret is not None:
        value = settings.secret.get_secret_value().encode()
        if len(value) < _SHORTEST:
            raise SettingsError(f"ASYM_SECRET: it has {len(value)} bytes; give it at least {_SHORTEST} random ones")
        return ServerSecret(value)
    path = settings.secret_file
    if not path.exists():
        _make(path)
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        value = path.read_bytes().strip()
    except OSError as error:
        raise SettingsError(f"{path}: the server's secret cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise SettingsError(f"{path}: others may read the server's secret (mode {mode:03o}); chmod 600 it")
    if len(value) < _SHORTEST:
        raise SettingsError(f"{path}: too short for a secret; put it back from the backup, or delete it and all keys")
    return ServerSecret(value)


def _make(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # made with mode 0600
    aside = Path(name)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        # A link, not a rename: whoever comes second takes what is there.
        path.hardlink_to(aside)
    except FileExistsError:
        pass
    finally:
        aside.unlink(missing_ok=True)
