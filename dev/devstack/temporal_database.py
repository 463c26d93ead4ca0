"""The PostgreSQL of a Temporal server, with the schema that the server's own tool makes."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import psycopg
from sqlalchemy import make_url

from dev.devstack.errors import PartMissing
from dev.devstack.files import write_private
from dev.devstack.ports import Ports
from dev.devstack.postgres import DatabaseUrls, EmbeddedPostgres, major_version
from dev.devstack.processes import OwnedProcess
from dev.devstack.started import Started
from dev.devstack.temporal_config import PLUGIN, STORE, VISIBILITY
from dev.devstack.temporal_part import server_environ
from dev.devstack.temporal_programs import INSTEAD

# The folder of its programs; Debian's newest if it is not set.
POSTGRES_VARIABLE: Final = "TEMPORAL_POSTGRES_BIN"
DEBIAN: Final = Path("/usr/lib/postgresql")
OLDEST: Final = 15  # a version of PostgreSQL
EXTENSION: Final = "btree_gin"  # which the schema of the visibility needs
SCHEMAS: Final = {STORE: "postgresql/v12/temporal", VISIBILITY: "postgresql/v12/visibility"}
TOOL_TIMEOUT: Final = 300.0  # seconds


class TemporalDatabase(Started):
    """A PostgreSQL server of its own, with a Temporal server's two databases."""

    def __init__(
        self, directory: Path, programs: Path, sql_tool: Path, *, durable: bool = True
    ) -> None:
        """
        Args:
            directory: created if missing; its contents survive restarts.
            programs: the folder of PostgreSQL's programs, from `find_postgres`.
            sql_tool: Temporal's tool for its schema.
            durable: False turns off fsync, so a crash of the machine may lose data.
        """
        self.directory = directory
        self._sql_tool = sql_tool
        self._postgres = EmbeddedPostgres(
            directory,
            ports=Ports(directory / "ports.json"),
            durable=durable,
            programs=programs,
        )

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self._postgres.running

    @property
    def pid(self) -> int:
        """The process id of the running PostgreSQL."""
        return self._postgres.pid

    @property
    def superuser_url(self) -> str:
        """The URL of the superuser, who sees every connection; for tests."""
        return self._postgres.superuser_url

    def urls(self) -> dict[str, DatabaseUrls]:
        """Returns the URLs of both databases, by name."""
        return {name: self._postgres.urls(name) for name in SCHEMAS}

    def start(self) -> None:
        """Starts PostgreSQL, and makes or updates the schema.

        Raises:
            PartMissing: PostgreSQL does not start, or the tool fails.
        """
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o711)
        self._postgres.start()
        try:
            for name, schema in SCHEMAS.items():
                self._have_schema(name, schema)
        except BaseException:
            self._postgres.stop("immediate")
            raise

    def stop(self) -> None:
        """Stops PostgreSQL in order."""
        self._postgres.stop()

    def discard(self) -> None:
        """Stops PostgreSQL at once."""
        self._postgres.stop("immediate")

    def _have_schema(self, name: str, schema: str) -> None:
        """Makes the schema, or brings it up to this release's.

        The tool does not make it in one transaction, so a file says which are whole.
        """
        whole = self.directory / f"{name}.whole"
        if not whole.exists():
            self._postgres.drop_database(name)
            self._postgres.create_database(name)
            self._run_tool(name, "setup-schema", "--version", "0.0")
        self._run_tool(name, "update-schema", "--schema-name", schema)
        if not whole.exists():
            write_private(whole, "")

    def _run_tool(self, database: str, *arguments: str) -> None:
        url = make_url(self._postgres.urls(database).owner)
        process = OwnedProcess(
            [
                *(str(self._sql_tool), "--plugin", PLUGIN, "--database", database),
                *("--endpoint", str(url.host), "--port", str(url.port)),
                *("--user", str(url.username)),
                *arguments,
            ],
            log=self.directory / "schema.log",
            # Not an argument, which others could read.
            environ={**server_environ(os.environ), "SQL_PASSWORD": str(url.password)},
        )
        try:
            code = process.wait(TOOL_TIMEOUT)
        finally:
            process.kill()
        if code != 0:
            raise PartMissing(
                f"the schema of the Temporal server's database {database} was not made: "
                f"{process.log} ends with:\n{process.log_tail()}"
            )

    def connections(self) -> int:
        """Returns how many connections the Temporal server has to both databases."""
        url = make_url(self._postgres.superuser_url).set(drivername="postgresql")
        with psycopg.connect(url.render_as_string(hide_password=False)) as connection:
            found = connection.execute(
                "select count(*) from pg_stat_activity where datname = any(%s)", [[*SCHEMAS]]
            ).fetchone()
        assert found is not None
        return int(found[0])


def find_postgres(environ: Mapping[str, str] = os.environ, *, debian: Path = DEBIAN) -> Path:
    """Returns the folder of the programs of a PostgreSQL that a Temporal server can use.

    The PostgreSQL in the wheel does not have the extension `btree_gin`, which Temporal needs.

    Args:
        environ: TEMPORAL_POSTGRES_BIN names the folder; PATH is searched otherwise, after Debian's
            newest.
        debian: where Debian has its versions.

    Raises:
        PartMissing: there is none with the extension.
    """
    given = environ.get(POSTGRES_VARIABLE)
    if given:
        if not _suits(Path(given)):
            raise PartMissing(
                f"{POSTGRES_VARIABLE} is {given}, which does not have a PostgreSQL with the "
                f"extension {EXTENSION}. Name the folder of initdb and postgres."
            )
        return Path(given)
    versions = sorted(debian.glob("*/bin"), key=_version, reverse=True)
    on_path = shutil.which("initdb", path=environ.get("PATH", os.defpath))
    for folder in [*versions, *([Path(on_path).parent] if on_path else [])]:
        if _suits(folder):
            return folder
    raise PartMissing(
        f"there is no PostgreSQL 15 or newer with the extension {EXTENSION} for the Temporal "
        "server; the wheel's does not have it. Install one, such as \"apt-get install "
        f'postgresql-15", or name the folder of its programs: {POSTGRES_VARIABLE}=/path/to/bin. '
        f"{INSTEAD}"
    )


def _version(programs: Path) -> int:
    found = re.match(r"\d+", programs.parent.name)
    return int(found[0]) if found else 0


def _suits(programs: Path) -> bool:
    """Whether a folder has PostgreSQL's programs, and the extension beside them."""
    if not all(os.access(programs / name, os.X_OK) for name in ("initdb", "postgres")):
        return False
    if major_version(programs) < OLDEST:
        return False
    homes = [programs.parent / "share", Path("/usr/share/postgresql") / programs.parent.name]
    return any(
        (home / inside / "extension" / f"{EXTENSION}.control").is_file()
        for home in homes
        for inside in (".", "postgresql")
    )
