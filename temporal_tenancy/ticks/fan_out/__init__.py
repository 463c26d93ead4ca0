"""Fan-out: runs a tenant job for every tenant."""

from __future__ import annotations

from temporal_tenancy.core.migration_environment import CONTROL_PLANE
from temporal_tenancy.sdk.features import Feature
from temporal_tenancy.ticks.fan_out._activities import (
    PAGE_SIZE,
    ShardPages,
    close_ticks,
    look_at_child,
    look_at_runs,
    plan_ticks,
    record_outcomes,
    start_released,
)
from temporal_tenancy.ticks.fan_out.payloads import FanOutInput, FanOutResult
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
    """Returns the feature that runs a job for every tenant and records the outcomes in the ledger.

    Args:
        page_size: tenants of a shard that one activity reads.
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
            start_released,
            look_at_runs,
        ),
        migrations=(CONTROL_PLANE,),
    )
