"""Runs a tenant job for every tenant."""

from __future__ import annotations

from temporal_tenancy.core.migration_environment import CONTROL_PLANE
from temporal_tenancy.sdk.features import Feature
from temporal_tenancy.ticks.fan_out.activities import (
    PAGE_SIZE,
    ShardPages,
    close_ticks,
    look_at_child,
    plan_ticks,
    record_outcomes,
)
from temporal_tenancy.ticks.fan_out.models import FanOutInput, FanOutResult
from temporal_tenancy.ticks.fan_out.planning import tick_of
from temporal_tenancy.ticks.fan_out.workflows import FanOut, Shard

__all__ = [
    "FanOut",
    "FanOutInput",
    "FanOutResult",
    "fan_out",
    "tick_of",
]


def fan_out(*, page_size: int = PAGE_SIZE) -> Feature:
    """The feature: the workflows that start a job's runs, and the ledger of what became of them.

    `page_size` is how many tenants of a shard are read at once.
    """
    return Feature(
        "fan-out",
        workflows=(FanOut, Shard),
        activities=(
            plan_ticks,
            ShardPages(page_size).next_page,
            record_outcomes,
            close_ticks,
            look_at_child,
        ),
        migrations=(CONTROL_PLANE,),
    )
