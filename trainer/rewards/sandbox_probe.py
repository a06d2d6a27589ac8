"""Run inside the sandbox: tries what must not be possible, and says what was. JSON in on stdin, JSON out on stdout.

In: {"environment": names that may be there, "port": where the host listens on its loopback, "hidden": paths that must
not be seen, "read_only": folders that must not be writable}. Out: {"leaks": sentences, none when the sandbox holds}.
"""

import ctypes
import json
import os
import socket
import sys
from pathlib import Path

_CLONE_NEWUSER = 0x10000000
_BY_PYTHON = frozenset({"LC_CTYPE", "PWD"})


def leaks(asked: dict[str, object]) -> list[str]:
    environment, hidden, read_only = (_texts(asked[name]) for name in ("environment", "hidden", "read_only"))
    found = [f"environment variable {name}" for name in os.environ if name not in {*environment, *_BY_PYTHON}]
    found += [f"{path} is visible" for path in hidden if os.path.lexists(path)]
    found += [f"{folder} is writable" for folder in read_only if _can_write(folder)]
    if any(name != "lo" for _, name in socket.if_nameindex()):
        found.append("a network interface")
    if _can_connect(asked["port"]):
        found.append("the host's network")
    if os.getppid() != 1:
        found.append("other processes")
    if os.geteuid() == 0:
        found.append("it runs as root")
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER) == 0:
        found.append("it can make user namespaces")
    return found


def _texts(value: object) -> list[str]:
    if not isinstance(value, list):
        raise TypeError("a list was expected")
    return [str(item) for item in value]


def _can_write(folder: str) -> bool:
    try:
        Path(folder, "asym-sandbox-probe").write_bytes(b"")
    except OSError:
        return False
    return True


def _can_connect(port: object) -> bool:
    try:
        socket.create_connection(("127.0.0.1", int(str(port))), timeout=2).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    json.dump({"leaks": leaks(json.load(sys.stdin))}, sys.stdout)
