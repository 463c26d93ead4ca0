"""worker.py of the jobs that are counted, as a worker or a relay that does not wait for long."""

from __future__ import annotations

import sys
from datetime import timedelta
from functools import partial
from types import ModuleType
from typing import Any, Final

from processes.lifecycle.process_exit import exit_process
from processes.worker import relaying
from processes.worker.command import main
from temporal_tenancy.outbox import work_off
from temporal_tenancy.outbox.relay import upkeep
from temporal_tenancy.outbox.relay.relay import RelayOptions
from tests.system.faults import message_jobs

LEASE: Final = timedelta(seconds=3)

# What is waited for after a death, and only then.
_SOON: Final[dict[ModuleType, dict[str, Any]]] = {  # constants of any type
    relaying: {
        "RelayOptions": partial(
            RelayOptions,
            lease=LEASE,
            poll=timedelta(seconds=0.5),
            upkeep=timedelta(seconds=0.3),
            keep_completed=timedelta(hours=1),  # so that it can be counted
        )
    },
    upkeep: {
        "WORKED_OFF_FOR": timedelta(seconds=2),
        "SLOT_UNSEEN_FOR": timedelta(seconds=1),
    },
    work_off: {"HEARTBEAT_TIMEOUT": timedelta(seconds=2)},
}

if __name__ == "__main__":
    for module, values in _SOON.items():
        assert values.keys() <= vars(module).keys()
        vars(module).update(values)
    exit_process(
        main(
            sys.argv[1:],
            workflows=message_jobs.WORKFLOWS,
            activities=message_jobs.ACTIVITIES,
        )
    )
