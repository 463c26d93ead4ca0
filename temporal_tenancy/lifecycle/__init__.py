"""A process of workers or relays: its signals, readiness, health and orderly shutdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from temporal_tenancy.core.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from temporal_tenancy.lifecycle._collector import spare_what_is_loaded
    from temporal_tenancy.lifecycle._consumers import Consumer, RelayConsumer
    from temporal_tenancy.lifecycle._health import Health, Probe, Scrape, serving
    from temporal_tenancy.lifecycle._listening import listen
    from temporal_tenancy.lifecycle._probes import probes
    from temporal_tenancy.lifecycle._problems import PortInUse, ProcessProblem, WorkerFailed
    from temporal_tenancy.lifecycle._process import (
        CANCEL_SECONDS,
        Consumers,
        Process,
        run_process,
    )
    from temporal_tenancy.lifecycle._ready_file import write_ready_file
    from temporal_tenancy.lifecycle._stop_request import StopRequest, StopRequested

__all__ = [
    "CANCEL_SECONDS",
    "Consumer",
    "Consumers",
    "Health",
    "PortInUse",
    "Probe",
    "Process",
    "ProcessProblem",
    "RelayConsumer",
    "Scrape",
    "StopRequest",
    "StopRequested",
    "WorkerFailed",
    "listen",
    "probes",
    "run_process",
    "serving",
    "spare_what_is_loaded",
    "write_ready_file",
]

_WHERE: Final = {
    "CANCEL_SECONDS": "_process",
    "Consumer": "_consumers",
    "Consumers": "_process",
    "Health": "_health",
    "PortInUse": "_problems",
    "Probe": "_health",
    "Process": "_process",
    "ProcessProblem": "_problems",
    "RelayConsumer": "_consumers",
    "Scrape": "_health",
    "StopRequest": "_stop_request",
    "StopRequested": "_stop_request",
    "WorkerFailed": "_problems",
    "listen": "_listening",
    "probes": "_probes",
    "run_process": "_process",
    "serving": "_health",
    "spare_what_is_loaded": "_collector",
    "write_ready_file": "_ready_file",
}

__getattr__, __dir__ = lazy_exports(__name__, _WHERE)
