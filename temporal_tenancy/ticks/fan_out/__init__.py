"""Runs a tenant job for every tenant; `TenancyPlugin` puts these on every worker of workflows."""

from __future__ import annotations

from temporal_tenancy.ticks.fan_out.activities import (
    close_ticks,
    look_at_child,
    next_page,
    plan_ticks,
    record_outcomes,
)
from temporal_tenancy.ticks.fan_out.models import FanOutInput, FanOutResult
from temporal_tenancy.ticks.fan_out.planning import tick_of
from temporal_tenancy.ticks.fan_out.workflows import FanOut, Shard

FAN_OUT_WORKFLOWS = (FanOut, Shard)
FAN_OUT_ACTIVITIES = (plan_ticks, next_page, record_outcomes, close_ticks, look_at_child)

__all__ = [
    "FAN_OUT_ACTIVITIES",
    "FAN_OUT_WORKFLOWS",
    "FanOut",
    "FanOutInput",
    "FanOutResult",
    "tick_of",
]
