"""The `temporal` program, whose `server start-dev` is the dev server.

It is searched for on PATH, then in the user's cache folder. If it is in neither, it is put into the
cache: downloaded by the Temporal SDK or, if the download fails, built from the pinned Go module in
`dev/devstack/temporal/`.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from temporalio.testing import WorkflowEnvironment

from dev.devstack import eventloop
from dev.devstack.errors import PartMissing
from dev.devstack.go_programs import (
    GO_FOLDER,
    BuildFailed,
    build,
    building,
    find_go,
    pinned,
    say,
    user_cache,
)

PACKAGE = "github.com/temporalio/cli"
# The first server in which fairness is generally available.
MINIMUM_SERVER = (1, 31)

VERSION_TIMEOUT = 30.0  # seconds
DOWNLOAD_TIMEOUT = 120.0  # seconds, for about 60 MB


class Running(Protocol):
    """A dev server that the SDK has started."""

    async def shutdown(self) -> None:
        """Stops it."""


StartLocal = Callable[..., Awaitable[Running]]


@dataclass(frozen=True)
class _Sources:
    """What the program is downloaded or built with."""

    environ: Mapping[str, str]  # of the build
    go_folder: str
    start_local: StartLocal


def find_temporal(
    environ: Mapping[str, str] = os.environ,
    *,
    cache: Path | None = None,
    go_folder: str = GO_FOLDER,
    start_local: StartLocal = WorkflowEnvironment.start_local,
) -> Path:
    """Returns the path of a `temporal` whose server is 1.31 or newer.

    Reports on standard error what it skips and what takes long.

    Args:
        environ: PATH is read from it; the build gets all of it.
        cache: the folder to keep it in; the user's cache folder if not given.
        go_folder: a folder to search for Go beside PATH.
        start_local: starts a dev server as the Temporal SDK does, downloading it first.

    Raises:
        PartMissing: no binary is installed, and it can be neither downloaded nor built.
    """
    on_path = shutil.which("temporal", path=environ.get("PATH", os.defpath))
    if on_path is not None:
        version = server_version(Path(on_path))
        if version is not None and version >= MINIMUM_SERVER:
            return Path(on_path).absolute()
        say(f"{on_path} is skipped: its server is {_dotted(version)}, and 1.31 is the oldest.")
    folder = (cache or user_cache()) / pinned_version()
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "temporal"
    if not kept.exists():
        with building(folder, "the Temporal dev server"):
            if not kept.exists():
                sources = _Sources(environ, go_folder, start_local)
                _install(kept, sources)
    return kept


def server_version(binary: Path) -> tuple[int, int] | None:
    """Returns the major and minor version of its server; None if it does not report them."""
    try:
        answer = subprocess.run(
            [binary, "--version"],
            capture_output=True,
            text=True,
            timeout=VERSION_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    # temporal version 1.8.2 (Server 1.31.2, UI 2.50.1)
    found = re.search(r"\(Server (\d+)\.(\d+)\.", answer.stdout)
    return (int(found[1]), int(found[2])) if found else None


def pinned_version() -> str:
    """Returns the version of the Temporal CLI that go.mod requires, such as "1.8.2"."""
    return pinned(PACKAGE)


def _install(target: Path, sources: _Sources) -> None:
    for abandoned in target.parent.glob(".draft-*"):
        shutil.rmtree(abandoned, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".draft-") as draft:
        binary = _download(Path(draft), sources) or _build(Path(draft), target.parent, sources)
        if server_version(binary) is None:
            raise PartMissing(
                f"the Temporal dev server in {target.parent} does not run. "
                'Install the Temporal CLI (https://docs.temporal.io/cli), so that "temporal" is on '
                "PATH."
            )
        binary.chmod(0o755)
        binary.replace(target)


def _download(folder: Path, sources: _Sources) -> Path | None:
    """Downloads the program with the SDK; None if the download fails."""
    try:
        eventloop.run(lambda: _start_downloaded(folder, sources.start_local))
    except (RuntimeError, TimeoutError):
        return None
    return next((file for file in folder.iterdir() if os.access(file, os.X_OK)), None)


async def _start_downloaded(folder: Path, start_local: StartLocal) -> None:
    # The SDK downloads only as part of starting a server.
    async with asyncio.timeout(DOWNLOAD_TIMEOUT):
        server = await start_local(
            download_dest_dir=str(folder),
            dev_server_download_version=f"v{pinned_version()}",
            dev_server_startup_timeout=timedelta(seconds=60),
        )
        await server.shutdown()


def _build(folder: Path, logs: Path, sources: _Sources) -> Path:
    go = find_go(sources.environ, sources.go_folder)
    if go is None:
        raise PartMissing(
            "there is no Temporal dev server: install the Temporal CLI 1.7 or newer "
            '(https://docs.temporal.io/cli), so that "temporal" is on PATH, or Go '
            "(https://go.dev/dl), which builds it once; or set TEMPORAL_ADDRESS to a server of "
            "your own."
        )
    say("building the Temporal dev server with Go, once, about 4 minutes…")
    binary = folder / "temporal"
    try:
        build(
            go,
            f"{PACKAGE}/cmd/temporal",
            binary,
            log=logs / "build.log",
            environ=sources.environ,
            linked=f"-X {PACKAGE}/internal/temporalcli.Version={pinned_version()}",
        )
    except BuildFailed as error:
        raise PartMissing(
            "the Temporal dev server could not be built with Go. Install the Temporal CLI 1.7 or "
            f'newer (https://docs.temporal.io/cli), so that "temporal" is on PATH. {error}'
        ) from error
    return binary


def _dotted(version: tuple[int, int] | None) -> str:
    return "of unknown version" if version is None else f"{version[0]}.{version[1]}"
