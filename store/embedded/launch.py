"""Becomes the program given on the command line, tied to the life of the process that started it.

`launch.py --parent PID --signal N [--user NAME] -- PROGRAM ARG...`

The kernel sends the signal when the parent's main thread ends, however it ends, so no server outlives a supervisor
that was killed with -9. (Linux only. Elsewhere the program starts without this tie.)
"""

import argparse
import ctypes
import os
import pwd
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def _system_call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def drop_privileges(user: str) -> None:
    """From root to `user`, keeping of root's powers only the one to pass folders that are closed to others.

    Postgres refuses to run as root. Its data and its program often lie below a folder that only root may enter
    (/root is 0700): with CAP_DAC_OVERRIDE kept, no folder of the machine needs to be opened to others for it.
    """
    entry = pwd.getpwnam(user)
    _system_call("prctl", _PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    mask = 1 << _CAP_DAC_OVERRIDE
    header = _CapHeader(_CAPABILITY_VERSION_3, 0)
    data = (_CapData * 2)(_CapData(mask, mask, mask), _CapData(0, 0, 0))
    _system_call("capset", ctypes.byref(header), ctypes.byref(data))
    _system_call("prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)
    os.environ.update(HOME=entry.pw_dir, USER=user, LOGNAME=user)


def main() -> None:
    parser = argparse.ArgumentParser(prog="launch.py")
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--signal", type=int, required=True)
    parser.add_argument("--user")
    parser.add_argument("program", nargs="+")
    options = parser.parse_args()
    if options.user:
        drop_privileges(options.user)
    if sys.platform == "linux":
        # After the change of user, which clears it.
        _system_call("prctl", _PR_SET_PDEATHSIG, options.signal, 0, 0, 0)
    if os.getppid() != options.parent:
        sys.exit("launch: the process that started this one is gone")
    os.execv(options.program[0], options.program)  # noqa: S606 - becoming the server is this module's purpose


if __name__ == "__main__":
    main()
