"""Caches, locks and rates as a feature of the plugin."""

from __future__ import annotations

from temporal_tenancy.core.migration_environment import CONTROL_PLANE, OUTBOX
from temporal_tenancy.sdk.features import Feature
from temporal_tenancy.shared_state._store import SharedState, use_shared_state


def shared_state(state: SharedState) -> Feature:
    """Returns the feature that gives activities caches, locks and rates on `state`.

    A lock's fence is a table of the outbox's migrations.
    """
    return Feature(
        "shared_state",
        around_activities=lambda: use_shared_state(state),
        migrations=(CONTROL_PLANE, OUTBOX),
    )
