"""Builds programs of the pinned Go module in `dev/devstack/temporal/`, each once."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import platformdirs

from dev.devstack.processes import OwnedProcess

MODULE: Final = Path(__file__).parent / "temporal"
# Where Go's installer puts it; not on every PATH.
GO_FOLDER: Final = "/usr/local/go/bin"
BUILD_TIMEOUT: Final = 2400.0  # seconds; minutes on 2 cores, more beside other work


class BuildFailed(Exception):
    """Go has not built a program; the message ends with the end of its log."""


def user_cache() -> Path:
    """Returns the folder in which built and downloaded programs are kept."""
    return platformdirs.user_cache_path("temporal-tenancy")


def pinned(module: str) -> str:
    """Returns the version of a Go module that go.mod requires, without the "v"."""
    found = re.search(
        rf"^\s*{re.escape(module)} v(\S+)", (MODULE / "go.mod").read_text(), re.MULTILINE
    )
    if found is None:
        raise RuntimeError(f"{MODULE / 'go.mod'} does not require {module}.")
    return found[1]


def find_go(environ: Mapping[str, str], go_folder: str = GO_FOLDER) -> str | None:
    """Returns the path of `go`, from PATH or from `go_folder`; None if it is in neither."""
    return shutil.which("go", path=os.pathsep.join([environ.get("PATH", os.defpath), go_folder]))


def build(
    go: str, package: str, binary: Path, *, log: Path, environ: Mapping[str, str], linked: str = ""
) -> None:
    """Builds a package of the pinned module, or of one that it requires.

    Args:
        go: the path of `go`.
        package: of a main program.
        binary: the file to build.
        log: the file to which Go's output is appended.
        environ: the environment of the build.
        linked: further flags of the linker.

    Raises:
        BuildFailed: Go ended with an error, or took too long.
    """
    process = OwnedProcess(
        [
            *(go, "build", "-C", str(MODULE), "-mod=readonly", "-trimpath", "-buildvcs=false"),
            f"-ldflags=-s -w {linked}".rstrip(),
            f"-o={binary}",
            package,
        ],
        log=log,
        environ={**environ, "CGO_ENABLED": "0", "GOWORK": "off"},
        umask=0o022,
    )
    try:
        code = process.wait(BUILD_TIMEOUT)
    except TimeoutError as error:
        raise BuildFailed(f"it took more than {BUILD_TIMEOUT:.0f} s.") from error
    finally:
        process.kill()
    if code != 0:
        raise BuildFailed(f"{process.log} ends with:\n{process.log_tail()}")


@contextmanager
def building(folder: Path, what: str) -> Iterator[None]:
    """Keeps a second process from downloading or building at the same time.

    Args:
        folder: where the programs are kept.
        what: such as "the Temporal dev server", for who waits.
    """
    with open(folder / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that is getting {what}…")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def say(sentence: str) -> None:
    """Reports on standard error what takes long."""
    print(sentence, file=sys.stderr, flush=True)
