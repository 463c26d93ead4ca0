"""A worker process; `worker.py --help` lists its options."""

from __future__ import annotations

import sys

from processes.worker.command import main
from temporal_tenancy.cli import exit_process

if __name__ == "__main__":
    exit_process(main(sys.argv[1:]))
