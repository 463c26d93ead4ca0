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


@functools.cache
def forward_core_logs() -> None:
    """Sends the core's log lines through the process's logging, from the first client on.

    Does nothing where the process has a default runtime already.
    """
    forwarding = LogForwardingConfig(
        logger=logging.getLogger("temporalio.core"),
        append_target_to_name=False,
        prepend_target_on_message=False,
    )
    levels = TelemetryFilter(core_level="WARN", other_level="ERROR")
    telemetry = TelemetryConfig(logging=LoggingConfig(filter=levels, forwarding=forwarding))
    with suppress(RuntimeError):
        Runtime.set_default(Runtime(telemetry=telemetry))
