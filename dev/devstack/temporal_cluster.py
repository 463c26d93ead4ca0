"""A real Temporal server, with all its services, on a PostgreSQL of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from google.protobuf.duration_pb2 import Duration
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import (
    AddSearchAttributesRequest,
    ListSearchAttributesRequest,
)
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
    DescribeWorkflowExecutionRequest,
    RegisterNamespaceRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from dev.devstack import eventloop
from dev.devstack.errors import PartMissing, PortInUse
from dev.devstack.ports import LOOPBACK, Ports, free_low_port, says_taken
from dev.devstack.processes import LOG_LINES, OwnedProcess, Patience
from dev.devstack.temporal_config import (
    SERVICES,
    ServerPorts,
    write_server_config,
    write_ui_config,
)
from dev.devstack.temporal_database import TemporalDatabase
from dev.devstack.temporal_part import (
    ANSWER_TIMEOUT,
    POLL_INTERVAL,
    PORTS_NAME,
    SEARCH_ATTRIBUTES,
    START_ATTEMPTS,
    UI_PORTS_NAME,
    TemporalPart,
    server_environ,
    settings,
)
from dev.devstack.temporal_programs import ServerPrograms

SHARDS: Final = 4  # of the histories
RETENTION: Final = 24 * 3600  # seconds that closed runs are kept, as the dev server does
STOP_TIMEOUT: Final = 20.0  # seconds
DEFAULT_NAMESPACE: Final = "default"
SAID: Final = ("level", "msg", "error")  # fields of a log line


class TemporalServer(TemporalPart):
    """`temporal-server` on 127.0.0.1, with PostgreSQL for its state and its list of workflows."""

    called = "the Temporal server"

    def __init__(
        self,
        programs: ServerPrograms,
        postgres_programs: Path,
        directory: Path,
        *,
        port: int | None = None,
        ui: bool = True,
        ui_port: int | None = None,
        preferred_ui_port: int | None = None,
        ports: Ports | None = None,
        namespace: str = DEFAULT_NAMESPACE,
        durable: bool = True,
        partitions: int | None = None,
        dynamic_config: Mapping[str, str] | None = None,
        log_level: str = "warn",
    ) -> None:
        """
        Args:
            programs: from `find_server_programs`.
            postgres_programs: the folder of PostgreSQL's programs, from `find_postgres`.
            directory: of its state and its log, which survive a restart; created if missing.
            port: the frontend's only one; any if not given, preferably the last one.
            ui: whether there is a Web UI.
            ui_port: the Web UI's only one; any if not given, preferably the last one.
            preferred_ui_port: the Web UI's first one, if it is free.
            ports: keeps the last ports of the frontend and the Web UI; this object does if not
                given.
            namespace: created besides "default".
            durable: False turns off the database's fsync.
            partitions: of each task queue; order and fairness hold within one. 4 if not given.
            dynamic_config: further settings, by name, as JSON values.
            log_level: debug, info, warn or error.
        """
        self.directory = directory.absolute()
        self.log = self.directory / "server.log"
        self.namespace = namespace
        self.database = TemporalDatabase(
            self.directory / "postgres", postgres_programs, programs.sql_tool, durable=durable
        )
        self._programs = programs
        self._wanted = (port, ui_port)
        self._preferred_ui_port = preferred_ui_port
        self._ports = ports or Ports()
        self._inner_ports: dict[str, int] = {}  # the last ones that only the server itself uses
        self._address: str | None = None
        self._ui_address: str | None = None
        self._with_ui = ui
        self._config = settings(partitions, dynamic_config)
        self._log_level = log_level
        self._process: OwnedProcess | None = None
        self._ui: OwnedProcess | None = None

    @property
    def address(self) -> str:
        """The frontend's host and port."""
        if self._address is None:
            raise RuntimeError("the Temporal server has not been started.")
        return self._address

    @property
    def ui_url(self) -> str | None:
        """The Web UI's address; None without a Web UI."""
        return f"http://{self._ui_address}" if self._ui_address is not None else None

    @property
    def running(self) -> bool:
        """Whether the server, its database and its Web UI run."""
        server = self._process is not None and self._process.running
        ui = not self._with_ui or (self._ui is not None and self._ui.running)
        return server and ui and self.database.running

    def log_tail(self, lines: int = LOG_LINES) -> str:
        """Returns the last lines that the server has written to its log."""
        return "" if self._process is None else _plain(self._process.log_tail(lines))

    def start(self) -> None:
        """Starts what does not run, and returns once it takes workflows in its namespace.

        Raises:
            PortInUse: a requested port is taken.
            PartMissing: a part does not start; the message includes the end of its log.
        """
        if self.running:
            return
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o711)
        try:
            if not self.database.running:
                self._end_processes(in_order=False)
                self.database.start()
            if self._process is None or not self._process.running:
                self._start_server()
            if self._with_ui and (self._ui is None or not self._ui.running):
                self._start_ui()
        except BaseException:
            self.discard()
            raise

    def stop(self) -> None:
        """Stops all of it in order, if it runs."""
        self._end_processes(in_order=True)
        self.database.stop()

    def kill(self) -> None:
        """Kills the server's process, as a crash would; its database runs on."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()

    def discard(self) -> None:
        """Ends all of it at once."""
        self._end_processes(in_order=False)
        self.database.discard()

    def _end_processes(self, *, in_order: bool) -> None:
        ui, self._ui = self._ui, None
        process, self._process = self._process, None
        for each in (ui, process):
            if each is not None and in_order:
                each.stop(signal.SIGTERM, STOP_TIMEOUT)
            elif each is not None:
                each.kill()

    def _start_server(self) -> None:
        for attempt in range(1, START_ATTEMPTS + 1):
            chosen = self._choose()
            process = OwnedProcess(
                [
                    *(str(self._programs.server), "--config-file", str(self._write(chosen))),
                    *("--allow-no-auth", "start"),
                ],
                log=self.log,
                environ=server_environ(os.environ),
            )
            try:
                answers = self._comes_to_answer(process, chosen)
            except BaseException:
                process.kill()
                raise
            if answers:
                self._process = process
                self._address = f"{LOOPBACK}:{chosen.grpc['frontend']}"
                self._keep(chosen)
                return
            output = "" if process.running else process.log_tail()
            process.kill()
            port = self._wanted[0]
            if port is not None and says_taken(output) and f":{port}:" in output:
                raise PortInUse(port, LOOPBACK)
            if not says_taken(output) or attempt == START_ATTEMPTS:
                raise PartMissing(
                    f"the Temporal server did not answer on {LOOPBACK}:{chosen.grpc['frontend']}; "
                    f"{self.log} ends with:\n{_plain(process.log_tail())}"
                )
            self._inner_ports = {}  # another program may have taken one of them

    def _choose(self) -> ServerPorts:
        """Returns different ports for all services, those that they had last if possible."""
        taken: set[int] = set()

        def choose(candidates: Iterator[int]) -> int:
            port = next(port for port in candidates if port not in taken)
            taken.add(port)
            return port

        def inner(kind: str) -> dict[str, int]:
            return {name: choose(self._inner_candidates(f"{name}.{kind}")) for name in SERVICES}

        wanted = self._wanted[0]
        frontend = choose(iter([wanted]) if wanted else self._ports.candidates(PORTS_NAME))
        return ServerPorts(
            grpc={**inner("grpc"), "frontend": frontend}, membership=inner("membership")
        )

    def _inner_candidates(self, name: str) -> Iterator[int]:
        kept = self._inner_ports.get(name)
        if kept is not None:
            yield kept
        while True:
            yield free_low_port()

    def _keep(self, chosen: ServerPorts) -> None:
        self._ports.keep(PORTS_NAME, chosen.grpc["frontend"])
        self._inner_ports = {
            f"{name}.{kind}": port
            for kind, ports in (("grpc", chosen.grpc), ("membership", chosen.membership))
            for name, port in ports.items()
        }

    def _write(self, ports: ServerPorts) -> Path:
        return write_server_config(
            self.directory,
            self.database.urls(),
            ports,
            shards=SHARDS,
            dynamic_config=self._config,
            log_level=self._log_level,
        )

    def _comes_to_answer(self, process: OwnedProcess, ports: ServerPorts) -> bool:
        address = f"{LOOPBACK}:{ports.grpc['frontend']}"
        patience = Patience(process)
        while process.running and patience.is_left():
            if eventloop.run(lambda: self._is_ready(address)):
                return True
            time.sleep(POLL_INTERVAL)
        return False

    async def _is_ready(self, address: str) -> bool:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                for namespace in dict.fromkeys([DEFAULT_NAMESPACE, self.namespace]):
                    client = await Client.connect(address, namespace=namespace)
                    await _have_namespace(client)
                    await _have_search_attributes(client)
                    await _reach_services(client)
        except (RuntimeError, RPCError, TimeoutError):
            return False
        return True

    def _start_ui(self) -> None:
        folder = self.directory / "ui"
        folder.mkdir(exist_ok=True, mode=0o700)
        for attempt in range(1, START_ATTEMPTS + 1):
            wanted = self._wanted[1]
            port = wanted or next(self._ports.candidates(UI_PORTS_NAME, self._preferred_ui_port))
            write_ui_config(folder, self.address, port, self.namespace)
            process = OwnedProcess(
                [
                    *(str(self._programs.ui), "--root", str(self.directory)),
                    *("--config", folder.name, "--env", "local", "start"),
                ],
                log=self.directory / "ui.log",
                environ=server_environ(os.environ),
            )
            try:
                serves = _comes_to_listen(process, port)
            except BaseException:
                process.kill()
                raise
            if serves:
                self._ui, self._ui_address = process, f"{LOOPBACK}:{port}"
                self._ports.keep(UI_PORTS_NAME, port)
                return
            output = "" if process.running else process.log_tail()
            process.kill()
            if wanted is not None and says_taken(output):
                raise PortInUse(wanted, LOOPBACK)
            if not says_taken(output) or attempt == START_ATTEMPTS:
                raise PartMissing(
                    f"Temporal's Web UI did not start; {process.log} ends with:\n"
                    f"{process.log_tail()}"
                )


def _plain(lines: str) -> str:
    """Returns a server's log without its stack traces, which are longer than what it says."""
    found = []
    for line in lines.splitlines():
        try:
            entry = json.loads(line)
            found.append(": ".join(str(entry[key]) for key in SAID if key in entry))
        except (ValueError, TypeError):
            found.append(line)
    return "\n".join(found)


async def _have_namespace(client: Client) -> None:
    """Registers the client's namespace, unless it is there."""
    try:
        await client.workflow_service.register_namespace(
            RegisterNamespaceRequest(
                namespace=client.namespace,
                workflow_execution_retention_period=Duration(seconds=RETENTION),
            )
        )
    except RPCError as error:
        if error.status is not RPCStatusCode.ALREADY_EXISTS:
            raise


async def _have_search_attributes(client: Client) -> None:
    """Adds the search attributes that are not there."""
    listed = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=client.namespace)
    )
    missing = {
        name: IndexedValueType.Value(f"INDEXED_VALUE_TYPE_{kind.upper()}")
        for name, kind in SEARCH_ATTRIBUTES.items()
        if name not in listed.custom_attributes
    }
    if missing:
        await client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(namespace=client.namespace, search_attributes=missing)
        )


async def _reach_services(client: Client) -> None:
    """Asks each service that a job needs; raises `RPCError` while one is not there yet."""
    await client.count_workflows("TenantId = 'nobody'")  # the visibility, in the database
    await client.workflow_service.describe_task_queue(  # matching
        DescribeTaskQueueRequest(
            namespace=client.namespace, task_queue=TaskQueue(name="devstack-ready")
        )
    )
    for number in range(2 * SHARDS):  # history: likely on each shard
        try:
            await client.workflow_service.describe_workflow_execution(
                DescribeWorkflowExecutionRequest(
                    namespace=client.namespace,
                    execution=WorkflowExecution(workflow_id=f"devstack-ready-{number}"),
                )
            )
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise


def _comes_to_listen(process: OwnedProcess, port: int) -> bool:
    patience = Patience(process)
    while process.running and patience.is_left():
        with suppress(OSError), socket.create_connection((LOOPBACK, port), ANSWER_TIMEOUT):
            time.sleep(POLL_INTERVAL)  # it would end by now if another program had the port
            return process.running
        time.sleep(POLL_INTERVAL)
    return False
