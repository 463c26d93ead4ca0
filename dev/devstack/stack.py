"""PostgreSQL, Temporal and Redis together, each started unless the environment names one."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Final, TypeVar

from dev.devstack.errors import DirectoryInUse, NoDirectory, PartMissing
from dev.devstack.files import read_exports, write_exports
from dev.devstack.outside import CONNECTIONS_VARIABLE, Outside
from dev.devstack.ports import Ports
from dev.devstack.postgres import EmbeddedPostgres
from dev.devstack.progress import Progress, Silence
from dev.devstack.redis import RedisServer, redis_program
from dev.devstack.signals import undisturbed
from dev.devstack.started import Started
from dev.devstack.store_connections import point_connections
from dev.devstack.temporal_kinds import KIND_VARIABLES, make_temporal
from dev.devstack.temporal_part import TemporalPart

UI_PORT = 8233
OWNER_VARIABLE = "DATABASE_URL"
# The variables required with it, and the optional one.
ROLE_VARIABLES = ("TENANT_DATABASE_URL", "PLATFORM_DATABASE_URL")
OPTIONAL_ROLE_VARIABLES = ("RELAY_DATABASE_URL",)
REDIS_VARIABLE: Final = "REDIS_URL"
DATABASE_VARIABLES = (OWNER_VARIABLE, *ROLE_VARIABLES, *OPTIONAL_ROLE_VARIABLES)

# In the stack's directory.
ENV_FILE: Final = "env"  # the addresses, for a shell; without the database owner's
ENV_SUFFIX: Final = ".env"  # of the addresses for one kind of process
OWNER_FILE: Final = "owner.env"  # the database owner's address, for migrations alone
LOCK_FILE: Final = "lock"  # held while a stack runs: JSON with its process id and when it began

LOCK_WAIT: Final = 0.5  # seconds
SLOW_STOP: Final = 2.0  # seconds, after which it is said what is waited for

# In `env` beside the addresses: the stack's directory, and which variables are the stack's own (and
# were not given to it), separated by commas.
DIRECTORY_VARIABLE: Final = "DEVSTACK"
OWN_VARIABLE: Final = "DEVSTACK_OWN"
MARKERS: Final = (DIRECTORY_VARIABLE, OWN_VARIABLE)


Server = TypeVar("Server", bound=Started)


class Stack(Started):
    """The servers that the workers need, running inside the `with` block.

    DATABASE_URL in the environment replaces the embedded PostgreSQL, and TEMPORAL_ADDRESS the
    Temporal server. TEMPORAL_KIND says which one is started: "dev", the default, or "server".
    REDIS_URL replaces the Redis server, which is left out where its program is not installed.
    """

    def __init__(
        self,
        directory: Path,
        *,
        environ: Mapping[str, str] | None = None,
        ui: bool = True,
        ui_port: int | None = UI_PORT,
        durable: bool = True,
        partitions: int | None = None,
        dynamic_config: Mapping[str, str] | None = None,
        temporal_binary: Path | None = None,
        outside: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """
        Args:
            directory: where state and logs are kept; for one stack at a time.
            environ: the environment; this process's if not given.
            ui: whether to serve the Web UI.
            ui_port: the preferred port of the Web UI; any free one if it is taken or None.
            durable: False keeps Temporal's state in memory and turns off fsync, for tests.
            partitions: of each task queue; see `make_temporal`.
            dynamic_config: of the Temporal server; see `make_temporal`.
            temporal_binary: the dev server's program; searched for if not given.
            outside: whether to provide mail, object storage, folders of secrets and Redis too.
            progress: says what is started, and how long it takes.
        """
        self.directory = directory.absolute()
        self.postgres: EmbeddedPostgres | None = None
        self.temporal: TemporalPart | None = None
        self.redis: RedisServer | None = None
        self.outside: Outside | None = None
        self.ports = Ports(self.directory / "ports.json")
        self._environ = dict(os.environ if environ is None else environ)
        self._ui = ui
        self._ui_port = ui_port
        self._durable = durable
        self._partitions = partitions
        self._dynamic_config = dynamic_config
        self._temporal_binary = temporal_binary
        self._with_outside = outside
        self._progress = progress or Silence()
        self._given_database: dict[str, str] = {}  # the environment's
        self._parts = ExitStack()

    def start(self) -> None:
        """Starts every part that the environment does not name; if one fails, stops them all.

        Raises:
            PartMissing: a part is missing, or a variable that another one requires.
            DirectoryInUse: another stack runs in the directory.
            NoDirectory: the directory is a file, or in one.
        """
        with ExitStack() as parts:
            # If a later part fails, the earlier ones are stopped.
            parts.enter_context(self._directory_lock())
            temporal = self._make_temporal()
            self._start_postgres(parts)
            self._start_temporal(parts, temporal)
            if self._with_outside:
                self._start_redis(parts)
                outside = Outside(self.directory, self._environ, self.ports)
                self.outside = parts.enter_context(outside)
            self._point_connections()
            self._parts = parts.pop_all()

    def stop(self) -> None:
        """Stops the parts in reverse order, ignoring signals meanwhile."""
        with undisturbed():
            self._parts.close()

    def environment(self) -> dict[str, str]:
        """Returns the addresses as environment variables, including the database owner's.

        A server that was started again may have another address.
        """
        outside = {} if self.outside is None else self.outside.variables()
        return (
            self._database_variables()
            | self._temporal_variables()
            | self._redis_variables()
            | outside
        )

    def runtime_environment(self) -> dict[str, str]:
        """Returns the addresses for a worker, without the database owner's."""
        return {name: value for name, value in self.environment().items() if name != OWNER_VARIABLE}

    def process_environment(
        self, *, owner: bool = False, without: Collection[str] = ()
    ) -> dict[str, str]:
        """Returns the whole environment for a child process.

        It is the stack's environment, with the addresses of its parts in place of any others.

        Args:
            owner: whether the process, such as a migration, gets the database owner's URL.
            without: variables that the process does not need and does not get.
        """
        own_temporal = self.temporal is not None
        kept = {
            name: value
            for name, value in self._environ.items()
            if name not in (*DATABASE_VARIABLES, *MARKERS)
            # Keys and certificates for another server would make the client fail on this one.
            and not (own_temporal and name.startswith("TEMPORAL_"))
        }
        given = kept | (self.environment() if owner else self.runtime_environment())
        return {name: value for name, value in given.items() if name not in without}

    def write_env_files(self, lacks: Mapping[str, Collection[str]] | None = None) -> None:
        """Writes the addresses as lines that a shell sources: `env` and `owner.env`; mode 0600.

        A shell that has sourced `env` has what commands and programs need. The owner's address
        is apart, because a process with the owner's rights is refused where tenants' jobs run.
        Also lets the connections of tenants' databases lead to where PostgreSQL is now.

        `lacks` has the variables that a process of each name does not get: `NAME.env` is what
        another one like it needs.
        """
        self._point_connections()
        own = sorted(name for name in self.environment() if not self._environ.get(name))
        markers = {DIRECTORY_VARIABLE: str(self.directory), OWN_VARIABLE: ",".join(own)}
        write_exports(
            self.directory / ENV_FILE,
            self.runtime_environment() | markers,
            comment="The addresses of the stack in this folder. The database owner's is in "
            f'"{OWNER_FILE}".',
            unset=[OWNER_VARIABLE],
        )
        for process, without in (lacks or {}).items():
            write_exports(
                self.directory / f"{process}{ENV_SUFFIX}",
                {
                    name: value
                    for name, value in self.runtime_environment().items()
                    if name not in without
                }
                | markers,
                comment=f"What another {process} like that of the stack in this folder has.",
                unset=[OWNER_VARIABLE, *without],
            )
        owner = self.environment().get(OWNER_VARIABLE)
        write_exports(
            self.directory / OWNER_FILE,
            {} if owner is None else self.environment() | markers,
            comment="What migrations need: all addresses, and the database owner's. No worker "
            "starts in a shell "
            f'that has it; sourcing "{ENV_FILE}" takes it away.',
        )

    def _make_temporal(self) -> TemporalPart | None:
        """Makes the Temporal server, before anything has started: its program may be missing."""
        if self._environ.get("TEMPORAL_ADDRESS"):
            return None
        return make_temporal(
            self.directory / "temporal",
            environ=self._environ,
            binary=self._temporal_binary,
            ui=self._ui,
            preferred_ui_port=self._ui_port,
            ports=self.ports,
            namespace=self._namespace,
            durable=self._durable,
            partitions=self._partitions,
            dynamic_config=self._dynamic_config,
        )

    def _start_postgres(self, parts: ExitStack) -> None:
        if self._environ.get(OWNER_VARIABLE):
            self._given_database = self._require_given_database()
            self._progress.say("The database is the one that DATABASE_URL names.")
            return
        postgres = EmbeddedPostgres(
            self.directory / "postgres",
            ports=self.ports,
            durable=self._durable,
            owner_creates=True,
        )
        with self._progress.phase("Starting PostgreSQL"):
            self.postgres = parts.enter_context(self._running("PostgreSQL", postgres))

    def _point_connections(self) -> None:
        folder = None if self.outside is None else self.outside.connections
        if self.postgres is not None and folder is not None:
            point_connections(folder, self.postgres.port)

    def _require_given_database(self) -> dict[str, str]:
        for name in ROLE_VARIABLES:
            if not self._environ.get(name):
                raise PartMissing(
                    f"DATABASE_URL is set, but {name} is not. Set it to the same database, as the "
                    "role that the workers use, or unset DATABASE_URL for an embedded PostgreSQL."
                )
        given = {name: self._environ.get(name, "") for name in DATABASE_VARIABLES}
        return {name: value for name, value in given.items() if value}

    def _database_variables(self) -> dict[str, str]:
        if self.postgres is None:
            return dict(self._given_database)
        urls = self.postgres.urls()
        return {
            "DATABASE_URL": urls.owner,
            "TENANT_DATABASE_URL": urls.tenant,
            "PLATFORM_DATABASE_URL": urls.platform,
            "RELAY_DATABASE_URL": urls.relay,
        }

    def _start_temporal(self, parts: ExitStack, temporal: TemporalPart | None) -> None:
        if temporal is None:
            address = self._environ["TEMPORAL_ADDRESS"]
            self._progress.say(f"Temporal is the server {address}, which TEMPORAL_ADDRESS names.")
            return
        with self._progress.phase("Starting Temporal"):
            self.temporal = parts.enter_context(self._running("Temporal", temporal))

    def _start_redis(self, parts: ExitStack) -> None:
        if self._environ.get(REDIS_VARIABLE):
            self._progress.say("Redis is the server that REDIS_URL names.")
            return
        program = redis_program()
        if program is None:
            self._progress.say(
                "Neither valkey-server nor redis-server is installed, so nothing is cached, and "
                "each process counts rates on its own."
            )
            return
        redis = RedisServer(self.directory / "redis", program, ports=self.ports)
        with self._progress.phase("Starting Redis"):
            self.redis = parts.enter_context(self._running("Redis", redis))

    def _redis_variables(self) -> dict[str, str]:
        given = self._environ.get(REDIS_VARIABLE)
        url = given if self.redis is None else self.redis.url
        return {REDIS_VARIABLE: url} if url else {}

    @property
    def _namespace(self) -> str:
        return self._environ.get("TEMPORAL_NAMESPACE") or "default"

    def _temporal_variables(self) -> dict[str, str]:
        temporal = self.temporal
        ui_url = self._environ.get("TEMPORAL_UI_URL") if temporal is None else temporal.ui_url
        return {
            "TEMPORAL_ADDRESS": (
                self._environ["TEMPORAL_ADDRESS"] if temporal is None else temporal.address
            ),
            "TEMPORAL_NAMESPACE": self._namespace,
            **({"TEMPORAL_UI_URL": ui_url} if ui_url else {}),
        }

    @contextmanager
    def _running(self, name: str, server: Server) -> Iterator[Server]:
        """Runs a server in the block; says so if it takes long to stop."""
        server.start()
        try:
            yield server
        finally:
            with self._progress.phase(f"Stopping {name}", after=SLOW_STOP):
                server.stop()

    @contextmanager
    def _directory_lock(self) -> Iterator[None]:
        # Others may enter, because under root PostgreSQL runs as another account.
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o711)
            # Appending, because another stack may run, and the file says which.
            file = open(self.directory / LOCK_FILE, "a+")  # noqa: SIM115
        except (FileExistsError, NotADirectoryError) as error:
            raise NoDirectory(
                f"{error.filename} is not a folder, so no stack can keep its state there. "
                "Use another directory."
            ) from error
        except PermissionError as error:
            raise PartMissing(
                f"{self.directory} cannot be written by this user. Use another directory, or "
                "delete this one if another user left it behind."
            ) from error
        except OSError as error:  # such as a read-only file system, or a full one
            raise PartMissing(
                f"{error.filename} cannot be written: {error.strerror}. Use another directory."
            ) from error
        with file:
            if not _locks(file):
                raise DirectoryInUse(_another_runs(self.directory, file))
            earlier = [self.directory / ENV_FILE, *self.directory.glob(f"*{ENV_SUFFIX}")]
            for path in earlier:  # of an earlier run, maybe on other ports
                path.unlink(missing_ok=True)
            file.truncate(0)
            began = datetime.now().astimezone().isoformat(timespec="seconds")
            json.dump({"pid": os.getpid(), "began": began}, file)
            file.flush()
            try:
                yield
            finally:
                file.truncate(0)


def without_own(environ: Mapping[str, str], directory: Path) -> dict[str, str]:
    """Returns `environ` without what a shell has sourced from an earlier stack in `directory`.

    Otherwise a new stack would take those addresses for servers to use in place of its own.
    """
    if environ.get(DIRECTORY_VARIABLE) != str(directory.absolute()):
        return dict(environ)
    own = {*environ.get(OWN_VARIABLE, "").split(","), *MARKERS}
    return {name: value for name, value in environ.items() if name not in own}


def without_servers(environ: Mapping[str, str]) -> dict[str, str]:
    """Returns `environ` without the addresses of any servers, such as those of a sourced stack.

    It keeps TEMPORAL_KIND, which is no address.
    """
    given = {*DATABASE_VARIABLES, REDIS_VARIABLE, CONNECTIONS_VARIABLE}
    own = {*environ.get(OWN_VARIABLE, "").split(","), *given, *MARKERS}
    return {
        name: value
        for name, value in environ.items()
        if name not in own and (name in KIND_VARIABLES or not name.startswith("TEMPORAL_"))
    }


def _locks(file: IO[str]) -> bool:
    """Takes the lock; returns False if another stack has it.

    A command that looks whether a stack runs takes the lock too, for a moment.
    """
    deadline = time.monotonic() + LOCK_WAIT
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(LOCK_WAIT / 10)
        else:
            return True


def _another_runs(directory: Path, lock: IO[str]) -> str:
    """Returns what to say when another stack has the lock: which, where it is, how to stop it."""
    lock.seek(0)
    try:
        holder = json.loads(lock.read())
        pid, began = int(holder["pid"]), datetime.fromisoformat(holder["began"])
    except (ValueError, KeyError, TypeError):
        # An earlier release's, or one that has not said yet.
        return f"another stack runs in {directory}. Stop it first, or use another directory."
    env, use = directory / ENV_FILE, ""
    if env.exists():  # else it is still starting
        url = read_exports(env).get("TEMPORAL_UI_URL")
        where = f"Its Web UI is {url}; " if url else ""
        use = f' {where}"source {shlex.quote(str(env))}" lets a shell use it.'
    return (
        f"another stack runs in {directory}: process {pid}, since {began:%H:%M:%S}.{use} "
        f'Stop it with Ctrl-C where it runs, or "kill {pid}"; or use another directory.'
    )
