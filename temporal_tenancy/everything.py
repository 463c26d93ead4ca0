"""The standard plugin, with all features of the library."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from temporal_tenancy.core.directory import TenantDirectory
from temporal_tenancy.core.errors import MissingExtra
from temporal_tenancy.core.migration_environment import MigrationEnvironment
from temporal_tenancy.core.spelling import spelled
from temporal_tenancy.sdk.features import Feature
from temporal_tenancy.sdk.plugin import TenancyPluginBase

if TYPE_CHECKING:
    from temporal_tenancy.dead_letters.alerts import AlertSink
    from temporal_tenancy.postgres.database import Database

__all__ = ["TenancyPlugin", "everything", "sessions"]


@spelled
class TenancyPlugin(TenancyPluginBase):
    """The Temporal plugin that carries the tenant through every call and checks it.

    Pass it to the client: `Client.connect(..., plugins=[TenancyPlugin(...)])`. Workers of that
    client use it too. A `Replayer` takes the same plugin.
    """

    def __init__(
        self,
        *,
        directory: TenantDirectory | None = None,
        database: Database | None = None,
        features: Iterable[Feature] | None = None,
        passthrough: Iterable[str] = (),
        exempt: Mapping[str, str] | None = None,
        alerts: Sequence[AlertSink] = (),
        platform_queue: str | None = None,
        payload_limit: int | None = None,
        migrations: Sequence[MigrationEnvironment] = (),
    ) -> None:
        """
        Args:
            directory: where tenants are looked up. Required for workers; clients read the fairness
                weight of the tenant's plan from it. Lookups are cached for at most 5 s.
            database: the database that `tenant_session()` and `platform_session()` use inside
                activities.
            features: the library's workflows and activities that workers run in addition to the
                application's. None means `everything()`; `[]` means isolation only.
            passthrough: the application's own packages, which workflow modules can then import
                directly. The sandbox stays on.
            exempt: undeclared workflow and activity types to allow, each with a reason, such as
                those of a third-party plugin. They run without a scope, so they cannot open a
                tenant's session.
            alerts: where `dead_letters.sweep` and the watch of a release send alerts, in addition
                to the log.
            platform_queue: the task queue of the library's own scheduled jobs, such as
                `dead_letters.sweep`. None means "default". A worker must serve it.
            payload_limit: the largest input, result, heartbeat or message, in bytes. A larger one
                raises `TooLarge` before it is sent. None means the server's default, 2 MiB: set
                it where your server's `limit.blobSize.error` differs.
            migrations: the environments of the application's tenant-owned tables. The jobs of a
                tenant whose own store lacks some of them wait, with `SchemaBehind`, until
                `migrate` has brought them.

        Raises:
            ConfigurationError: an exemption has no reason, or a feature is listed twice.
        """
        if features is None:
            served = everything(database, alerts=alerts, queue=platform_queue)
        else:
            served = tuple(features)
        if features is not None and database is not None:
            served = (sessions(database), *served)
        if migrations:
            from temporal_tenancy.stores import migrated_stores

            served = (*served, migrated_stores(migrations))
        super().__init__(
            directory=directory,
            features=served,
            passthrough=passthrough,
            exempt=exempt,
            payload_limit=payload_limit,
        )
        self.database = database


def everything(
    database: Database | None = None,
    *,
    alerts: Sequence[AlertSink] = (),
    queue: str | None = None,
) -> tuple[Feature, ...]:
    """Returns all features of the library.

    Args:
        database: the database of the features. Without one, workers run only the workflow for
            failed runs, whose history is the same either way, but can replay the histories of all.
            Where the extra `postgres` is not installed either, there are none: isolation alone.
        alerts: where `dead_letters.sweep` sends alerts, in addition to the log.
        queue: the task queue of the features' scheduled jobs; None: "default".

    Raises:
        MissingExtra: the extra `postgres` is not installed, and there are alerts to send.
    """
    # Imported here, so that isolation alone does not need the dependencies of these features.
    try:
        from temporal_tenancy.dead_letters import dead_letters, failed_runs_without_database
        from temporal_tenancy.deployments import deployments
        from temporal_tenancy.outbox import outbox
        from temporal_tenancy.ticks.fan_out import fan_out
        from temporal_tenancy.ticks.reconcile import reconcile
    except MissingExtra:
        if database is not None or alerts:
            raise
        return ()

    features = (
        fan_out(),
        outbox(),
        dead_letters(alerts, queue=queue),
        reconcile(queue=queue),
        deployments(database, alerts),
    )
    if database is not None:
        return (sessions(database), *features)
    known = (
        replace(feature, workflows=(), activities=(), replayed=feature.workflows, of_worker=None)
        for feature in features
    )
    return (*known, failed_runs_without_database())


def sessions(database: Database) -> Feature:
    """Returns the feature that opens sessions on `database` inside activities."""
    from temporal_tenancy.postgres.database import use_database

    return Feature("sessions", around_activities=lambda: use_database(database))
