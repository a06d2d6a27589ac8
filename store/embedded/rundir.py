"""Folders for unix sockets: 0700, so that other users of the machine cannot connect, and always the same for a home.

A socket's path may have 107 bytes at most, and a comma would end it for libpq. It lies in the home when it can, else in
the temporary folder.
"""

import hashlib
import os
import stat
from pathlib import Path

_LONGEST_SOCKET_PATH = 107
_LONGEST_NAME = "postgres/.s.PGSQL.5432"


def run_dir(home: Path) -> Path:
    """The folder below which the sockets of this home lie; made when missing. PermissionError when it is not ours."""
    inside = home / "run"
    if "," not in str(inside) and len(os.fsencode(inside / _LONGEST_NAME)) <= _LONGEST_SOCKET_PATH:
        return _own(inside)
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    # Not $TMPDIR as it is: it may differ between the shells that start the same home, and be long itself.
    return _own(Path("/tmp") / f"asym-{os.getuid()}-{digest}")  # noqa: S108 - checked to be ours below


def _own(path: Path) -> Path:
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise PermissionError(f"{path} is in the way: it is not a folder of this user") from None
    path.chmod(0o700)
    return path
