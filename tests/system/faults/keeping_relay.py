"""worker.py whose relay keeps completed messages for an hour, so that they can be counted."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Final

from processes.worker.command import main
from temporal_tenancy.cli import exit_process
from temporal_tenancy.outbox import RelayOptions

KEEPING: Final = RelayOptions(keep_completed=timedelta(hours=1))

if __name__ == "__main__":
    exit_process(main(sys.argv[1:], relaying=KEEPING))
