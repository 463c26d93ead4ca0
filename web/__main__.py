"""The HTTP door's process: `python -m web --help` shows what it can be told."""

from __future__ import annotations

import sys

from process_exit import exit_process
from web.command import main

if __name__ == "__main__":
    exit_process(main(sys.argv[1:]))
