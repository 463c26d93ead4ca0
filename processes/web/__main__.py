"""The HTTP door's process; `python -m processes.web --help` lists its options."""

from __future__ import annotations

import sys

from temporal_tenancy.cli import exit_process, importing_code

if __name__ == "__main__":
    with importing_code():
        from processes.web.command import main
    exit_process(main(sys.argv[1:]))
