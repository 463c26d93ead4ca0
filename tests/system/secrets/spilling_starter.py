"""starter.py with the jobs whose errors quote what they had in hand, then the command."""

from __future__ import annotations

import sys

from processes.cli.app import main
from temporal_tenancy.cli import exit_process
from tests.system.secrets.spilling_jobs import WORKFLOWS  # noqa: F401  # known once imported

if __name__ == "__main__":
    exit_process(main(sys.argv[1:]))
