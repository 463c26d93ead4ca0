"""starter.py with one more schedule: job and cron line, then the command."""

from __future__ import annotations

import sys

from processes.cli.app import main
from temporal_tenancy.cli import exit_process
from temporal_tenancy.ticks.schedules import ScheduledJob
from workflows import schedules

if __name__ == "__main__":
    schedules.SCHEDULES.append(ScheduledJob(sys.argv[1], sys.argv[2]))
    exit_process(main(sys.argv[3:]))
