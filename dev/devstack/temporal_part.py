"""What a stack asks of its Temporal server, whichever kind it is."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from dev.devstack import eventloop
from dev.devstack.processes import LOG_LINES, OwnedProcess
from dev.devstack.started import Started

ANSWER_TIMEOUT: Final = 5.0  # seconds
POLL_INTERVAL: Final = 0.05  # seconds
START_ATTEMPTS: Final = 5  # on different ports
PORTS_NAME: Final = "temporal"
UI_PORTS_NAME: Final = "temporal_ui"

SEARCH_ATTRIBUTES: Final = {"TenantId": "Keyword", "Job": "Keyword"}
FAIRNESS: Final = {
    # Off by default; without it one tenant's backlog holds up the others.
    "matching.enableFairness": "true",
    # A queue has several partitions, which pass tasks on to each other in no fair order until the
    # oldest has waited this long. With the default of 5 s, a few small tasks wait for 5 s.
    "matching.backlogNegligibleAge": '"100ms"',
}


class TemporalPart(Started):
    """A Temporal server on 127.0.0.1, with fairness on and the search attributes."""

    called: ClassVar[str]  # in sentences
    namespace: str
    directory: Path  # where its log is
    log: Path
    _process: OwnedProcess | None

    @property
    @abstractmethod
    def address(self) -> str:
        """The frontend's host and port."""

    @property
    @abstractmethod
    def ui_url(self) -> str | None:
        """The Web UI's address; None without a Web UI."""

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        if self._process is None:
            raise RuntimeError(f"{self.called} is not running.")
        return self._process.pid

    @property
    @abstractmethod
    def running(self) -> bool:
        """Whether it runs, with all that it needs."""

    @property
    def process(self) -> OwnedProcess | None:
        """The server's process, if it has been started."""
        return self._process

    def answers(self) -> bool:
        """Asks for its namespace, and returns whether it answers within `ANSWER_TIMEOUT`."""
        return eventloop.run(lambda: has_answered(self.address, self.namespace))

    def how_it_ended(self) -> str:
        """Returns how the server's process has ended."""
        return "is not running" if self._process is None else self._process.how_it_ended()

    @abstractmethod
    def log_tail(self, lines: int = LOG_LINES) -> str:
        """Returns the last lines that the server has written to its log."""

    @abstractmethod
    def kill(self) -> None:
        """Kills the server, as a crash would; `start` starts it again on what it has kept."""

    @abstractmethod
    def discard(self) -> None:
        """Ends it and all that it needs at once; what it has kept may be lost."""


def settings(partitions: int | None, dynamic_config: Mapping[str, str] | None) -> dict[str, str]:
    """Returns the dynamic configuration of a server, setting name to JSON value.

    Args:
        partitions: of each task queue; the server's default if not given.
        dynamic_config: further settings, which win.
    """
    found = {**FAIRNESS, **(dynamic_config or {})}
    if partitions is not None:
        for side in ("Read", "Write"):
            found[f"matching.numTaskqueue{side}Partitions"] = str(partitions)
    return found


def server_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """Returns an environment without variables that Temporal's programs read as options."""
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith(("TEMPORAL_", "SQL_")) and not name.endswith("DATABASE_URL")
    }


async def has_answered(address: str, namespace: str) -> bool:
    """Asks a server for its namespace, and returns whether it answers within `ANSWER_TIMEOUT`."""
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            client = await Client.connect(address, namespace=namespace)
            await client.workflow_service.describe_namespace(
                DescribeNamespaceRequest(namespace=namespace)
            )
    except (RuntimeError, RPCError, TimeoutError):
        return False
    return True
