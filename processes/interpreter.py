"""Runs a program with the Python of `.venv`; imports nothing that has to be installed."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from typing import Final

NEEDED: Final = "temporalio"  # a package that only the project's environment has
_MISSING: Final = 3  # the exit code for something that is not reachable


def use_environment(program: str) -> None:
    """Returns if this Python has the project's packages; otherwise runs `program` with `.venv`'s.

    A program can then be called as `./starter.py`, from any folder, without activating anything.

    Args:
        program: the file that was called, which is beside `.venv`.
    """
    if find_spec(NEEDED) is not None:
        return
    file = os.path.realpath(program)
    environment = os.path.join(os.path.dirname(file), ".venv")
    python = os.path.join(environment, "bin", "python")
    if os.path.realpath(sys.prefix) == os.path.realpath(environment) or not os.path.exists(python):
        print(
            f"PackagesMissing: {os.path.basename(file)} needs packages that are not installed. "
            '"make setup" installs them.',
            file=sys.stderr,
        )
        sys.exit(_MISSING)
    os.execv(python, [python, file, *sys.argv[1:]])  # noqa: S606  # as this process was called
