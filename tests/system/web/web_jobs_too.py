"""starter.py that knows the job which the HTTP door's tests ask for."""

from __future__ import annotations

import sys

from processes.cli.app import main
from processes.lifecycle.process_exit import exit_process

if __name__ == "__main__":
    exit_process(main(sys.argv[1:]))
