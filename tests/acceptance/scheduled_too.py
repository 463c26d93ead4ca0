"""starter.py with one schedule more: job and cron line, then the command."""

from __future__ import annotations

import sys

import schedules
from cli.app import main
from process_exit import exit_process
from temporal_tenancy.schedules import ScheduledJob

if __name__ == "__main__":
    schedules.SCHEDULES.append(ScheduledJob(sys.argv[1], sys.argv[2]))
    exit_process(main(sys.argv[3:]))
