"""Metering as a feature of the plugin, and for processes that run no worker."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Final

from temporal_tenancy.core.migration_environment import CONTROL_PLANE
from temporal_tenancy.metering._meter import FLUSHED_EVERY, Meter
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.sdk.features import Feature

_meter: Final = Meter()  # of the process


def metering(database: Database, *, every: timedelta = FLUSHED_EVERY) -> Feature:
    """Returns the feature that writes down what each tenant's jobs use of workers and database.

    A process meters while it runs workers, each thing once, however many workers it has.

    Args:
        database: whose platform's role writes the table.
        every: how often; a process that is killed loses what it used since.
    """
    return Feature(
        "metering",
        around_workers=lambda: metered(database, every=every),
        migrations=(CONTROL_PLANE,),
    )


def metered(
    database: Database, *, every: timedelta = FLUSHED_EVERY
) -> AbstractAsyncContextManager[None]:
    """Meters during the block, for a process without workers, such as one that serves HTTP."""
    return _meter.metering(database, every)
