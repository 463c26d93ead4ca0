"""The metrics of the SDK's core: polls, slots, latencies and tasks, for the process's own scrape.

The core serves them on a port of the loopback interface, which the system chooses. `text()` reads
them from there, so that a process has one address for all its metrics. They name no tenant.
"""

from __future__ import annotations

import http.client
import logging
import socket
from typing import Final

from temporalio.runtime import LoggingConfig, PrometheusConfig, Runtime, TelemetryConfig

HOST: Final = "127.0.0.1"
TRIES: Final = 10  # ports: another program may take a free one first
TIMEOUT: Final = 2.0  # seconds for the core to answer
# In seconds. The core's own have no bound between 100 ms and 500 ms.
_FAST: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
_BUCKETS: Final = {
    f"temporal_{name}": _FAST
    for name in (
        "activity_execution_latency",
        "activity_schedule_to_start_latency",
        "activity_succeed_endtoend_latency",
        "local_activity_execution_latency",
        "workflow_task_execution_latency",
        "workflow_task_schedule_to_start_latency",
    )
}

_port: int | None = None

log: Final = logging.getLogger(__name__)


def measured(logging_config: LoggingConfig) -> Runtime:
    """Returns a runtime that also measures; its metrics are those of `text()`.

    Where no port of the loopback interface is free, it only logs a warning: work goes on.
    """
    global _port
    for _ in range(TRIES):
        try:
            port = _free_port()
            config = PrometheusConfig(
                bind_address=f"{HOST}:{port}",
                counters_total_suffix=True,
                unit_suffix=True,
                durations_as_seconds=True,
                histogram_bucket_overrides=_BUCKETS,
            )
            telemetry = TelemetryConfig(
                logging=logging_config, metrics=config, attach_service_name=False
            )
            runtime = Runtime(telemetry=telemetry)
        except (OSError, ValueError):  # the port was taken in between
            continue
        _port = port
        return runtime
    log.warning("metrics.core_not_measured")
    return Runtime(telemetry=TelemetryConfig(logging=logging_config))


def text() -> bytes:
    """Returns the core's metrics in Prometheus' text format; nothing if it does not measure."""
    if _port is None:
        return b""
    connection = http.client.HTTPConnection(HOST, _port, timeout=TIMEOUT)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read()
    except (OSError, http.client.HTTPException):  # the scrape has the rest
        return b""
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port
