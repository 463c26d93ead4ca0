"""PostgreSQL and Temporal together, each started unless the environment names one."""

from __future__ import annotations

import fcntl
import os
import shlex
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dev.devstack.credentials import write_private
from dev.devstack.errors import DirectoryInUse, PartMissing
from dev.devstack.outside import start_outside
from dev.devstack.ports import prefer
from dev.devstack.postgres import EmbeddedPostgres
from dev.devstack.signals import undisturbed
from dev.devstack.started import Started
from dev.devstack.temporal_binary import find_temporal
from dev.devstack.temporal_server import TemporalDevServer

UI_PORT = 8233
OWNER_VARIABLE = "DATABASE_URL"
# The variables required with it, and the optional one.
ROLE_VARIABLES = ("TENANT_DATABASE_URL", "PLATFORM_DATABASE_URL")
OPTIONAL_ROLE_VARIABLES = ("RELAY_DATABASE_URL",)
DATABASE_VARIABLES = (OWNER_VARIABLE, *ROLE_VARIABLES, *OPTIONAL_ROLE_VARIABLES)


class Stack(Started):
    """The servers that the workers need, running inside the `with` block.

    DATABASE_URL in the environment replaces the embedded PostgreSQL, and TEMPORAL_ADDRESS the
    Temporal dev server.
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
    ) -> None:
        """
        Args:
            directory: where state and logs are kept; for one stack at a time.
            environ: the environment; this process's if not given.
            ui: whether to serve the Web UI.
            ui_port: the preferred port of the Web UI; any free one if it is taken or None.
            durable: False keeps Temporal's state in memory and turns off fsync, for tests.
            partitions: of each task queue; see `TemporalDevServer`.
            dynamic_config: of the Temporal server; see `TemporalDevServer`.
            temporal_binary: searched for if not given.
            outside: whether to provide mail, object storage and tenants' credentials too.
        """
        self.directory = directory.absolute()
        self.postgres: EmbeddedPostgres | None = None
        self.temporal: TemporalDevServer | None = None
        self._environ = dict(os.environ if environ is None else environ)
        self._ui = ui
        self._ui_port = ui_port
        self._durable = durable
        self._partitions = partitions
        self._dynamic_config = dynamic_config
        self._temporal_binary = temporal_binary
        self._outside = outside
        self._variables: dict[str, str] = {}
        self._parts = ExitStack()

    def start(self) -> None:
        """Starts every part that the environment does not name; if one fails, stops them all.

        Raises:
            PartMissing: a part is missing, or a variable that another one requires.
            DirectoryInUse: another stack runs in the directory.
        """
        with ExitStack() as parts:
            # If a later part fails, the earlier ones are stopped.
            parts.enter_context(self._directory_lock())
            binary = self._find_temporal()
            variables = self._start_postgres(parts) | self._start_temporal(parts, binary)
            if self._outside:
                variables |= start_outside(parts, self.directory, self._environ)
            self._variables = variables
            self._parts = parts.pop_all()

    def stop(self) -> None:
        """Stops the parts in reverse order, ignoring signals meanwhile."""
        with undisturbed():
            self._parts.close()

    def environment(self) -> dict[str, str]:
        """Returns the addresses as environment variables, including the database owner's."""
        return dict(self._variables)

    def runtime_environment(self) -> dict[str, str]:
        """Returns the addresses for a worker, without the database owner's."""
        return {name: value for name, value in self._variables.items() if name != OWNER_VARIABLE}

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
            if name not in DATABASE_VARIABLES
            # Keys and certificates for another server would make the client fail on this one.
            and not (own_temporal and name.startswith("TEMPORAL_"))
        }
        given = kept | (self.environment() if owner else self.runtime_environment())
        return {name: value for name, value in given.items() if name not in without}

    def write_env_file(self, path: Path) -> None:
        """Writes the addresses as `export` lines that a shell can source; mode 0600."""
        lines = [f"export {name}={shlex.quote(value)}" for name, value in self._variables.items()]
        write_private(path, "\n".join(lines) + "\n")

    def _find_temporal(self) -> Path | None:
        if self._environ.get("TEMPORAL_ADDRESS"):
            return None
        return self._temporal_binary or find_temporal(self._environ)

    def _start_postgres(self, parts: ExitStack) -> dict[str, str]:
        if self._environ.get(OWNER_VARIABLE):
            return self._given_database()
        postgres = EmbeddedPostgres(self.directory / "postgres", durable=self._durable)
        self.postgres = parts.enter_context(postgres)
        urls = postgres.urls()
        return {
            "DATABASE_URL": urls.owner,
            "TENANT_DATABASE_URL": urls.tenant,
            "PLATFORM_DATABASE_URL": urls.platform,
            "RELAY_DATABASE_URL": urls.relay,
        }

    def _given_database(self) -> dict[str, str]:
        for name in ROLE_VARIABLES:
            if not self._environ.get(name):
                raise PartMissing(
                    f"DATABASE_URL is set, but {name} is not. Set it to the same database, as the "
                    "role that the workers use, or unset DATABASE_URL for an embedded PostgreSQL."
                )
        given = {name: self._environ.get(name, "") for name in DATABASE_VARIABLES}
        return {name: value for name, value in given.items() if value}

    def _start_temporal(self, parts: ExitStack, binary: Path | None) -> dict[str, str]:
        namespace = self._environ.get("TEMPORAL_NAMESPACE") or "default"
        if binary is None:
            ui_url = self._environ.get("TEMPORAL_UI_URL")
            return {
                "TEMPORAL_ADDRESS": self._environ["TEMPORAL_ADDRESS"],
                "TEMPORAL_NAMESPACE": namespace,
                **({"TEMPORAL_UI_URL": ui_url} if ui_url else {}),
            }
        folder = self.directory / "temporal"
        temporal = TemporalDevServer(
            binary,
            folder,
            ui=self._ui,
            ui_port=None if self._ui_port is None else prefer(self._ui_port),
            namespace=namespace,
            database_file=folder / "temporal.db" if self._durable else None,
            partitions=self._partitions,
            dynamic_config=self._dynamic_config,
        )
        self.temporal = parts.enter_context(temporal)
        return {
            "TEMPORAL_ADDRESS": temporal.address,
            "TEMPORAL_NAMESPACE": namespace,
            **({"TEMPORAL_UI_URL": temporal.ui_url} if temporal.ui_url else {}),
        }

    @contextmanager
    def _directory_lock(self) -> Iterator[None]:
        # Others may enter, because under root PostgreSQL runs as another account.
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o711)
            file = open(self.directory / "lock", "w")  # noqa: SIM115
        except PermissionError as error:
            raise PartMissing(
                f"{self.directory} cannot be written by this user. Use another directory, or "
                "delete this one if another user left it behind."
            ) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise DirectoryInUse(
                    f"another stack runs in {self.directory}. Stop it first, or use another "
                    "directory."
                ) from error
            yield
