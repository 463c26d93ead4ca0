"""The programs of a real Temporal server: the server, its schema tool and its Web UI.

They are built once from the Go module in `dev/devstack/temporal/`, which pins the same release as
the dev server's, and kept in the user's cache folder.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

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

SERVER_MODULE: Final = "go.temporal.io/server"
UI_MODULE: Final = "github.com/temporalio/ui-server/v2"
PACKAGES: Final = {
    "temporal-server": f"{SERVER_MODULE}/cmd/server",
    "temporal-sql-tool": f"{SERVER_MODULE}/cmd/tools/sql",
    "temporal-ui-server": f"{UI_MODULE}/cmd/server",
}
# The folder of programs that are built already, of any release; none is built then.
PROGRAMS_VARIABLE: Final = "TEMPORAL_SERVER_BIN"
WHAT: Final = "the Temporal server"
# What to do without it.
INSTEAD: Final = (
    "Or unset TEMPORAL_KIND for the dev server, or set TEMPORAL_ADDRESS to a server of your own."
)


@dataclass(frozen=True)
class ServerPrograms:
    """The paths of a Temporal server's programs."""

    folder: Path

    @property
    def server(self) -> Path:
        """The server, with all of its services."""
        return self.folder / "temporal-server"

    @property
    def sql_tool(self) -> Path:
        """The tool that makes and updates the server's schema in a database."""
        return self.folder / "temporal-sql-tool"

    @property
    def ui(self) -> Path:
        """The Web UI's server."""
        return self.folder / "temporal-ui-server"


def server_release() -> str:
    """Returns the release of the Temporal server that go.mod requires, such as "1.31.2"."""
    return pinned(SERVER_MODULE)


def find_server_programs(
    environ: Mapping[str, str] = os.environ,
    *,
    cache: Path | None = None,
    go_folder: str = GO_FOLDER,
) -> ServerPrograms:
    """Returns the programs, and builds them first if the cache does not have them.

    Reports on standard error what takes long.

    Args:
        environ: TEMPORAL_SERVER_BIN names the folder of programs of any release. PATH is read from
            it; the build gets all of it.
        cache: the folder to keep them in; the user's cache folder if not given.
        go_folder: a folder to search for Go beside PATH.

    Raises:
        PartMissing: they are not in the cache and cannot be built, or not in the named folder.
    """
    given = environ.get(PROGRAMS_VARIABLE)
    if given:
        if missing := ", ".join(_missing(Path(given))):
            raise PartMissing(f"{PROGRAMS_VARIABLE} is {given}, which does not have {missing}.")
        return ServerPrograms(Path(given).absolute())
    folder = (cache or user_cache()) / f"server-{server_release()}"
    if _missing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with building(folder, WHAT):
            if _missing(folder):
                _build(folder, environ, go_folder)
    return ServerPrograms(folder)


def _missing(folder: Path) -> dict[str, str]:
    return {
        name: package for name, package in PACKAGES.items() if not os.access(folder / name, os.X_OK)
    }


def _build(folder: Path, environ: Mapping[str, str], go_folder: str) -> None:
    go = find_go(environ, go_folder)
    if go is None:
        raise PartMissing(
            f"{WHAT} {server_release()} is not built yet, and there is no Go to build it with. "
            f"Install Go (https://go.dev/dl), which builds it once. {INSTEAD}"
        )
    say(f"building {WHAT} {server_release()} with Go, once; it takes minutes…")
    for abandoned in folder.glob(".draft-*"):
        shutil.rmtree(abandoned, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".draft-") as draft:
        for name, package in _missing(folder).items():
            binary = Path(draft) / name
            try:
                build(go, package, binary, log=folder / "build.log", environ=environ)
            except BuildFailed as error:
                raise PartMissing(
                    f"{WHAT} {server_release()} could not be built with Go, which needs the "
                    f"network for modules that are not on this machine. {INSTEAD} {error}"
                ) from error
            binary.chmod(0o755)
            binary.replace(folder / name)
