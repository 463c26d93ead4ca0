"""The feature that starts tenants' runs on the worker version released to them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from temporal_tenancy.core.directory import STATE_CACHE_SECONDS
from temporal_tenancy.core.migration_environment import CONTROL_PLANE
from temporal_tenancy.dead_letters.alerts import AlertSink
from temporal_tenancy.deployments._released_versions import ReleasedVersions
from temporal_tenancy.deployments.polling import POLLED_WITHIN
from temporal_tenancy.deployments.watch import Watch, WatchRelease
from temporal_tenancy.sdk.features import Feature

if TYPE_CHECKING:
    from temporal_tenancy.postgres.database import Database


def deployments(
    database: Database | None = None,
    alerts: Sequence[AlertSink] = (),
    *,
    seconds: float = STATE_CACHE_SECONDS,
    polled_within: timedelta = POLLED_WITHIN,
) -> Feature:
    """Returns the feature that starts tenants' runs on the worker version released to them.

    Args:
        database: where the releases are. Without one, or without the platform's URL, clients start
            all runs on the current version.
        alerts: sinks that receive an alert when a release is halted, in addition to the log.
        seconds: how long a client's starts use what it has read of the releases.
        polled_within: how long ago a worker that still runs has polled at most. A release whose
            workers have not is halted.
    """
    has_releases = database is not None and database.has_control_plane
    released = ReleasedVersions(database, seconds) if database and has_releases else None
    return Feature(
        "deployments",
        workflows=(WatchRelease,),
        activities=(Watch(alerts, polled_within=polled_within).look_at_release,),
        migrations=(CONTROL_PLANE,),
        version_of=None if released is None else released.version_of,
    )
