"""The command line: `starter.py --help` shows what there is."""

from __future__ import annotations

import sys

from cli.app import main
from process_exit import exit_process

if __name__ == "__main__":
    exit_process(main(sys.argv[1:]))
