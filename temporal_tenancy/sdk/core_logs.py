"""Redirects the log lines of the SDK's core, which otherwise go straight to standard output."""

from __future__ import annotations

import functools
import logging
from contextlib import suppress

from temporalio.runtime import (
    LogForwardingConfig,
    LoggingConfig,
    Runtime,
    TelemetryConfig,
    TelemetryFilter,
)

from temporal_tenancy.sdk import core_metrics


@functools.cache
def forward_core_logs(*, measures: bool = False) -> None:
    """Sends the core's log lines through the process's logging, from the first client on.

    Does nothing where the process has a default runtime already.

    Args:
        measures: whether the core also measures what it does, for `core_metrics.text()`.
    """
    forwarding = LogForwardingConfig(
        logger=logging.getLogger("temporalio.core"),
        append_target_to_name=False,
        prepend_target_on_message=False,
    )
    levels = TelemetryFilter(core_level="WARN", other_level="ERROR")
    config = LoggingConfig(filter=levels, forwarding=forwarding)
    made = core_metrics.measured(config) if measures else _runtime(config)
    with suppress(RuntimeError):
        Runtime.set_default(made)


def _runtime(config: LoggingConfig) -> Runtime:
    return Runtime(telemetry=TelemetryConfig(logging=config))
