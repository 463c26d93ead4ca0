"""The kinds of Temporal server that a stack can start, and how each is found and made."""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final

from dev.devstack.errors import PartMissing
from dev.devstack.ports import Ports
from dev.devstack.temporal_binary import find_temporal
from dev.devstack.temporal_cluster import TemporalServer
from dev.devstack.temporal_database import POSTGRES_VARIABLE, find_postgres
from dev.devstack.temporal_part import TemporalPart
from dev.devstack.temporal_programs import PROGRAMS_VARIABLE, find_server_programs
from dev.devstack.temporal_server import TemporalDevServer

KIND_VARIABLE: Final = "TEMPORAL_KIND"
# What says which server is started; none of them is an address.
KIND_VARIABLES: Final = (KIND_VARIABLE, POSTGRES_VARIABLE, PROGRAMS_VARIABLE)


class TemporalKind(StrEnum):
    """What runs as the Temporal server."""

    DEV = "dev"  # `temporal server start-dev`: one program, on a file or in memory
    SERVER = "server"  # the server as in production, on a PostgreSQL of its own

    @classmethod
    def of(cls, environ: Mapping[str, str], variable: str = KIND_VARIABLE) -> TemporalKind:
        """Returns the kind that the environment names; the dev server if it names none.

        Raises:
            PartMissing: there is no such kind.
        """
        named = environ.get(variable) or cls.DEV
        try:
            return cls(named)
        except ValueError as error:
            raise PartMissing(
                f'{variable} is "{named}". It is "dev" (the dev server, which is the default) or '
                '"server" (the server as in production, on PostgreSQL).'
            ) from error


def make_temporal(
    directory: Path,
    *,
    kind: TemporalKind | None = None,
    environ: Mapping[str, str] = os.environ,
    binary: Path | None = None,
    ui: bool = False,
    preferred_ui_port: int | None = None,
    ports: Ports | None = None,
    namespace: str = "default",
    durable: bool = False,
    partitions: int | None = None,
    dynamic_config: Mapping[str, str] | None = None,
) -> TemporalPart:
    """Finds or builds the programs of a kind, and makes its server, which is not started.

    Args:
        directory: of its log and its state.
        kind: which; the one that the environment names if not given.
        environ: of the search for its programs, and of their build.
        binary: the dev server's program; searched for if not given.
        ui: whether it has a Web UI.
        preferred_ui_port: the Web UI's first port, if it is free.
        ports: keeps the last ports.
        namespace: created besides "default".
        durable: whether its state survives a stop, and a crash of the machine. Otherwise the dev
            server's is in memory, and the real server's database does without fsync.
        partitions: of each task queue; the server's default if not given.
        dynamic_config: further settings, by name, as JSON values.

    Raises:
        PartMissing: there is no such kind, or a program is not there and cannot be had.
    """
    kind = TemporalKind.of(environ) if kind is None else kind
    if kind is TemporalKind.DEV:
        return TemporalDevServer(
            binary or find_temporal(environ),
            directory,
            ui=ui,
            preferred_ui_port=preferred_ui_port,
            ports=ports,
            namespace=namespace,
            database_file=directory / "temporal.db" if durable else None,
            partitions=partitions,
            dynamic_config=dynamic_config,
        )
    postgres_programs = find_postgres(environ)
    return TemporalServer(
        find_server_programs(environ),
        postgres_programs,
        directory.with_name(f"{directory.name}-server"),
        ui=ui,
        preferred_ui_port=preferred_ui_port,
        ports=ports,
        namespace=namespace,
        durable=durable,
        partitions=partitions,
        dynamic_config=dynamic_config,
    )
