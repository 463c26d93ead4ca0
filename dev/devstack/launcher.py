"""Becomes another program that dies with the process that started it.

Every process of the stack begins by running this file, with `python -I -S`:

    launcher.py PARENT SIGNAL UID GID CAPABILITY PROGRAM ARGUMENT…

PARENT is the id of the expected parent process. SIGNAL is what the kernel sends when the parent's
thread ends. UID, GID and CAPABILITY are -1 to stay unchanged. This file uses only the standard
library, because the account it changes to may not be able to read the environment's packages.
"""

from __future__ import annotations

import ctypes
import os
import sys

# From linux/prctl.h and linux/capability.h.
PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
LINUX_CAPABILITY_VERSION_3 = 0x20080522

FAILED = 126


def _call(function: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"{function}: {os.strerror(ctypes.get_errno())}")


def _prctl(option: int, value: int, second: int = 0) -> None:
    zero = ctypes.c_ulong(0)
    _call("prctl", option, ctypes.c_ulong(value), ctypes.c_ulong(second), zero, zero)


def _keep_only(capability: int) -> None:
    bit = 1 << capability
    header = (ctypes.c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0)
    # Effective, permitted and inheritable, for the low and then the high 32 capabilities.
    sets = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)
    _call("capset", header, sets)
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)


def _become(uid: int, gid: int, capability: int) -> None:
    if capability >= 0:
        _prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if capability >= 0:
        _keep_only(capability)


def die_with_parent(parent: int, death_signal: int) -> None:
    """Has the kernel send this process a signal when its parent ends; exits if that has ended."""
    if sys.platform == "linux":
        _prctl(PR_SET_PDEATHSIG, death_signal)
    if os.getppid() != parent:
        # The parent ended before the kernel knew which process to watch.
        sys.exit(FAILED)


def main(arguments: list[str]) -> None:
    """Becomes the program; exits with 126 if it cannot."""
    parent, death_signal, uid, gid, capability = map(int, arguments[:5])
    program = arguments[5:]
    try:
        if uid >= 0:
            _become(uid, gid, capability)
        die_with_parent(parent, death_signal)  # after the change of account, which clears it
        os.execv(program[0], program)  # noqa: S606
    except OSError as error:
        print(f"{program[0]} could not be started: {error}", file=sys.stderr)
        sys.exit(FAILED)


if __name__ == "__main__":
    main(sys.argv[1:])
