"""worker.py with the jobs whose errors quote what they had in hand, as a worker or a relay."""

from __future__ import annotations

import sys
from datetime import timedelta

from activities import ACTIVITIES
from processes.worker.command import main
from temporal_tenancy.cli import exit_process
from temporal_tenancy.outbox import RelayOptions
from tests.system.secrets import spilling_jobs
from workflows import WORKFLOWS

if __name__ == "__main__":
    exit_process(
        main(
            sys.argv[1:],
            workflows=[*WORKFLOWS, *spilling_jobs.WORKFLOWS],
            activities=[*ACTIVITIES, *spilling_jobs.ACTIVITIES],
            relaying=RelayOptions(poll=timedelta(seconds=0.3), upkeep=timedelta(seconds=0.3)),
        )
    )
