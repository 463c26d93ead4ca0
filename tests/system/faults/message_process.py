"""worker.py with the counted jobs, as a worker or a relay with short waits."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Final

from processes.worker.command import main
from temporal_tenancy.cli import exit_process
from temporal_tenancy.outbox import RelayOptions, work_off
from tests.system.faults import message_jobs

LEASE: Final = timedelta(seconds=3)
# Waits that only follow a death.
OPTIONS: Final = RelayOptions(
    lease=LEASE,
    poll=timedelta(seconds=0.5),
    upkeep=timedelta(seconds=0.3),
    keep_completed=timedelta(hours=1),  # so that it can be counted
    worked_off=timedelta(seconds=2),
    slot_unseen=timedelta(seconds=1),
)


def shorten_waits() -> None:
    """Has messages that are worked off together wait less for a worker that has died."""
    assert "HEARTBEAT_TIMEOUT" in vars(work_off)
    vars(work_off)["HEARTBEAT_TIMEOUT"] = timedelta(seconds=4)  # its workflow's own


if __name__ == "__main__":
    shorten_waits()
    exit_process(
        main(
            sys.argv[1:],
            workflows=message_jobs.WORKFLOWS,
            activities=message_jobs.ACTIVITIES,
            relaying=OPTIONS,
        )
    )
