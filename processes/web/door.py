"""The shared state of the HTTP door's routes."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from fastapi import Request

from processes.web.admission import Admission
from processes.web.limits import Limits
from processes.web.rates import Rates
from processes.web.runs import Runs
from processes.web.tokens import Tokens
from saas.settings import Settings
from temporal_tenancy import CachedDirectory, Database
from temporal_tenancy.control_plane import ApiKeys, ControlPlaneDirectory
from temporal_tenancy.shared_state import SharedState

OPEN_JOBS: Final = frozenset(
    {
        "analytics.aggregate",
        "exports.generate",
        "integrations.sync",
        "report.daily",
        "reports.generate",
        "search.index",
    }
)
"""The jobs that tenants' own programs may request by name: counting a month, a day's report,
another attempt at an export, report or sync that failed, and an item's search entry. Only the
platform starts billing and retention, and one that sends mail would let callers mail anyone."""


@dataclass(frozen=True)
class Watch:
    """The timing of a stream of an import's progress, in seconds."""

    poll: float = 0.5  # between two checks of the import
    heartbeat: float = 15.0  # between keepalives: proxies drop silent connections
    longest: float = 600.0  # after that the client must authenticate again


@dataclass(frozen=True)
class Door:
    """The services and settings that the routes use."""

    database: Database
    directory: CachedDirectory
    keys: ApiKeys
    tokens: Tokens | None  # None: JWTs are not accepted
    runs: Runs
    upload_max_bytes: int
    domain: str | None = None  # the parent domain of tenants' host names
    open_jobs: Collection[str] = OPEN_JOBS
    rates: Rates = field(default_factory=Rates)
    admission: Admission = field(default_factory=Admission)
    watch: Watch = Watch()
    unready: asyncio.Event = field(default_factory=asyncio.Event)  # set before it drains
    stopping: asyncio.Event = field(default_factory=asyncio.Event)  # set to end open streams


def make_door(
    settings: Settings,
    database: Database,
    *,
    state: SharedState | None = None,
    open_jobs: Collection[str] = OPEN_JOBS,
) -> Door:
    """Returns the door that the settings describe, with `database`, and rates on `state`.

    Raises `ConfigurationError` if the key for JWTs is not valid or the limits contradict each
    other.
    """
    return Door(
        database=database,
        directory=CachedDirectory(ControlPlaneDirectory(database)),
        keys=ApiKeys(database),
        tokens=Tokens.of(settings),
        runs=Runs(database),
        upload_max_bytes=settings.web_upload_max_bytes,
        domain=settings.web_domain,
        open_jobs=open_jobs,
        rates=Rates(state),
        admission=Admission(Limits.of(settings), state),
    )


def door_of(request: Request) -> Door:
    """Returns the door of the application that handles `request`."""
    door: Door = request.app.state.door
    return door
