"""worker.py with the test's own jobs too."""

from __future__ import annotations

import sys

from activities import ACTIVITIES
from processes.worker.command import main
from temporal_tenancy.cli import exit_process
from tests.fixtures.jobs import slow_jobs
from workflows import WORKFLOWS

if __name__ == "__main__":
    exit_process(
        main(
            sys.argv[1:],
            workflows=[*WORKFLOWS, *slow_jobs.WORKFLOWS],
            activities=[*ACTIVITIES, *slow_jobs.ACTIVITIES],
        )
    )
