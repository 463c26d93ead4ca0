"""What the routes of the HTTP door work with."""

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
from temporal_tenancy.control_plane.api_keys import ApiKeys
from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.core.directory import CachedDirectory
from temporal_tenancy.postgres.database import Database

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
"""The jobs that tenants' own programs may ask for. Billing and retention are the platform's to
start, and what sends mail would send anybody's."""


@dataclass(frozen=True)
class Watch:
    """How an import is watched, in seconds."""

    poll: float = 0.5  # between two looks at it
    heartbeat: float = 15.0  # proxies give up connections that say nothing
    longest: float = 600.0  # then whoever watches has to show a key again


@dataclass(frozen=True)
class Door:
    """What the routes work with, and what they may do."""

    database: Database
    directory: CachedDirectory
    keys: ApiKeys
    tokens: Tokens | None  # None: nobody calls with a JWT
    runs: Runs
    upload_max_bytes: int
    domain: str | None = None  # of which tenants' host names are part
    open_jobs: Collection[str] = OPEN_JOBS
    rates: Rates = field(default_factory=Rates)
    admission: Admission = field(default_factory=Admission)
    watch: Watch = Watch()
    stopping: asyncio.Event = field(default_factory=asyncio.Event)  # ends what would go on


def make_door(
    settings: Settings, database: Database, *, open_jobs: Collection[str] = OPEN_JOBS
) -> Door:
    """The door that the settings describe, on `database`.

    Raises `ConfigurationError` where they give no sound key for JWTs, or limits that do not go
    together.
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
        admission=Admission(Limits.of(settings)),
    )


def door_of(request: Request) -> Door:
    """The door of the application that answers `request`."""
    door: Door = request.app.state.door
    return door
