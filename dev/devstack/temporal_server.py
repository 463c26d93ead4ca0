"""The Temporal dev server as a child process."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from dev.devstack.errors import PartMissing, PortInUse
from dev.devstack.ports import LOOPBACK, Ports, says_taken
from dev.devstack.processes import LOG_LINES, OwnedProcess, Patience
from dev.devstack.temporal_part import (
    FAIRNESS,
    POLL_INTERVAL,
    PORTS_NAME,
    SEARCH_ATTRIBUTES,
    START_ATTEMPTS,
    UI_PORTS_NAME,
    TemporalPart,
    server_environ,
    settings,
)

__all__ = ["FAIRNESS", "SEARCH_ATTRIBUTES", "TemporalDevServer"]


class TemporalDevServer(TemporalPart):
    """`temporal server start-dev` on 127.0.0.1, with fairness on and the search attributes."""

    called = "the Temporal dev server"

    def __init__(
        self,
        binary: Path,
        directory: Path,
        *,
        port: int | None = None,
        ui: bool = True,
        ui_port: int | None = None,
        preferred_ui_port: int | None = None,
        ports: Ports | None = None,
        namespace: str = "default",
        database_file: Path | None = None,
        partitions: int | None = None,
        dynamic_config: Mapping[str, str] | None = None,
        log_level: str = "warn",
    ) -> None:
        """
        Args:
            binary: the `temporal` program, from `find_temporal`.
            directory: where its log goes; created if missing.
            port: the frontend's only one; any if not given, preferably the last one.
            ui: whether it serves the Web UI.
            ui_port: the Web UI's only one; any if not given, preferably the last one.
            preferred_ui_port: the Web UI's first one, if it is free.
            ports: keeps the last ports; this object does if not given.
            namespace: created besides "default".
            database_file: the SQLite file that keeps its state; in memory if not given.
            partitions: of each task queue; order and fairness hold within one. 4 if not given.
            dynamic_config: further settings, by name, as JSON values.
            log_level: debug, info, warn, error or never.
        """
        self.binary = binary
        self.directory = directory.absolute()
        self.log = self.directory / "server.log"
        self.namespace = namespace
        self._wanted = (port, ui_port)
        self._preferred_ui_port = preferred_ui_port
        self._ports = ports or Ports()
        self._chosen: tuple[int, int] | None = None
        self._ui = ui
        self._database_file = database_file
        self._config = settings(partitions, dynamic_config)
        self._log_level = log_level
        self._process: OwnedProcess | None = None

    @property
    def address(self) -> str:
        """The frontend's host and port."""
        return f"{LOOPBACK}:{self._started_ports[0]}"

    @property
    def ui_url(self) -> str | None:
        """The Web UI's address; None without a Web UI."""
        return f"http://{LOOPBACK}:{self._started_ports[1]}" if self._ui else None

    @property
    def running(self) -> bool:
        """Whether the process is running."""
        return self._process is not None and self._process.running

    def log_tail(self, lines: int = LOG_LINES) -> str:
        """Returns the last lines that the server has written to its log."""
        return "" if self._process is None else self._process.log_tail(lines)

    @property
    def _started_ports(self) -> tuple[int, int]:
        if self._chosen is None:
            raise RuntimeError("the Temporal dev server has not been started.")
        return self._chosen

    def start(self) -> None:
        """Starts the server, and returns once it answers for its namespace.

        Raises:
            PortInUse: a requested port is taken.
            PartMissing: it does not answer; the message includes the end of its log.
        """
        if self.running:
            return
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._forget_unfinished()
        for attempt in range(1, START_ATTEMPTS + 1):
            self._chosen = self._choose()
            process = OwnedProcess(self.command(), log=self.log, environ=server_environ(os.environ))
            try:
                answers = self._comes_to_answer(process)
            except BaseException:
                process.kill()
                raise
            if answers:
                self._process = process
                self._unfinished.unlink(missing_ok=True)
                self._ports.keep(PORTS_NAME, self._chosen[0])
                if self._ui:
                    self._ports.keep(UI_PORTS_NAME, self._chosen[1])
                return
            output = "" if process.running else process.log_tail()
            process.kill()
            self._refuse_taken(output)
            # One of the ports that it chooses itself may be taken, too.
            if not says_taken(output) or attempt == START_ATTEMPTS:
                raise PartMissing(
                    f"the Temporal dev server did not answer on {self.address}; {self.log} ends "
                    f"with:\n{process.log_tail()}"
                )

    @property
    def _unfinished(self) -> Path:
        """A file that is there until the server has made its database."""
        return self.directory / "unfinished"

    def _forget_unfinished(self) -> None:
        """Deletes a database whose making was interrupted: the server would never start with it."""
        if self._database_file is None:
            return
        if self._unfinished.exists():
            for file in self._database_file.parent.glob(f"{self._database_file.name}*"):
                file.unlink()
        if not self._database_file.exists():
            self._unfinished.touch()

    def _choose(self) -> tuple[int, int]:
        port, ui_port = self._wanted
        return (
            port or next(self._ports.candidates(PORTS_NAME)),
            ui_port or next(self._ports.candidates(UI_PORTS_NAME, self._preferred_ui_port)),
        )

    def _refuse_taken(self, output: str) -> None:
        """Raises `PortInUse` if another program has a port that was asked for."""
        for port in self._wanted:
            if port is not None and says_taken(output) and f":{port}:" in output:
                raise PortInUse(port, LOOPBACK)

    def stop(self) -> None:
        """Stops the server, if it runs."""
        if self._database_file is None:
            # No orderly stop is needed: its state is in memory.
            self.kill()
            return
        process, self._process = self._process, None
        if process is not None:
            process.stop(signal.SIGTERM)

    def kill(self) -> None:
        """Kills the server, as a crash would."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()

    def discard(self) -> None:
        """Kills it."""
        self.kill()

    def command(self) -> list[str]:
        """Returns the server's command line."""
        port, ui_port = self._started_ports
        return [
            *(str(self.binary), "server", "start-dev"),
            *("--ip", LOOPBACK),
            *("--port", str(port)),
            *(("--ui-port", str(ui_port)) if self._ui else ("--headless",)),
            *("--namespace", self.namespace),
            *("--log-level", self._log_level),
            *(("--db-filename", str(self._database_file)) if self._database_file else ()),
            *_repeated("--search-attribute", SEARCH_ATTRIBUTES),
            *_repeated("--dynamic-config-value", self._config),
        ]

    def _comes_to_answer(self, process: OwnedProcess) -> bool:
        patience = Patience(process)
        while process.running and patience.is_left():
            if self.answers():
                return True
            time.sleep(POLL_INTERVAL)
        return False


def _repeated(option: str, values: Mapping[str, str]) -> list[str]:
    return [part for name, value in values.items() for part in (option, f"{name}={value}")]
