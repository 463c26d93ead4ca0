"""starter.py with the jobs that wait out a suspension, then the command."""

from __future__ import annotations

import sys

from processes.cli.app import main
from temporal_tenancy.cli import exit_process
from tests.fixtures.jobs.suspension_jobs import WORKFLOWS  # noqa: F401  # known once they are imported

if __name__ == "__main__":
    exit_process(main(sys.argv[1:]))
