"""The HTTP door's process; `python -m processes.web --help` lists its options."""

from __future__ import annotations

import sys

from processes.lifecycle.process_exit import exit_process
from processes.web.command import main

if __name__ == "__main__":
    exit_process(main(sys.argv[1:]))
