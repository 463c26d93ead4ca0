"""The plugin with all features of the library, which is the usual one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from temporal_tenancy.core.directory import TenantDirectory
from temporal_tenancy.sdk.features import Feature
from temporal_tenancy.sdk.plugin import TenancyPluginBase

if TYPE_CHECKING:
    from temporal_tenancy.dead_letters.alerts import AlertSink
    from temporal_tenancy.postgres.database import Database


class TenancyPlugin(TenancyPluginBase):
    """Makes losing the tenant impossible to do quietly.

    Give it to the client (`Client.connect(..., plugins=[TenancyPlugin(...)])`): workers of that
    client have it too. A `Replayer` takes the same plugin.
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
    ) -> None:
        """
        Args:
            directory: who the tenants are. Workers need one, and clients take the fairness weight
                of the tenant's plan from it. It is cached for at most 5 s.
            database: what `tenant_session()` and `platform_session()` open inside activities.
            features: what workers serve beside the application's own; None is `everything()`. With
                `[]` it is isolation alone.
            passthrough: the application's own packages, which workflow modules then import
                plainly; the sandbox stays on.
            exempt: workflow and activity types that are let through unmarked, each with the reason
                (a third-party plugin's). They get no scope, so nothing of a tenant's opens there.
            alerts: the ways to people, beside the log, for what `dead_letters.sweep` tells them.

        Raises:
            ConfigurationError: an exemption has no reason, or a feature is there twice.
        """
        given = everything(database, alerts=alerts) if features is None else tuple(features)
        if features is not None and database is not None:
            given = (sessions(database), *given)
        super().__init__(
            directory=directory, features=given, passthrough=passthrough, exempt=exempt
        )
        self.database = database


def everything(
    database: Database | None = None, *, alerts: Sequence[AlertSink] = ()
) -> tuple[Feature, ...]:
    """All features of the library.

    Without a database none is served, but for failed runs: their histories are the same with and
    without one. Histories of all can be replayed.
    """
    # Here, so that whoever wants isolation alone needs none of what these need.
    from temporal_tenancy.dead_letters import dead_letters, failed_runs_without_database
    from temporal_tenancy.outbox import outbox
    from temporal_tenancy.ticks.fan_out import fan_out
    from temporal_tenancy.ticks.reconcile import reconcile

    features = (fan_out(), outbox(), dead_letters(alerts), reconcile())
    if database is not None:
        return (sessions(database), *features)
    known = (replace(one, workflows=(), activities=(), replayed=one.workflows) for one in features)
    return (*known, failed_runs_without_database())


def sessions(database: Database) -> Feature:
    """Gives activities the sessions of `database`."""
    from temporal_tenancy.postgres.database import use_database

    return Feature("sessions", around_activities=lambda: use_database(database))
