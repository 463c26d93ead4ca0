"""The command line: `starter.py --help` shows what there is."""

from __future__ import annotations

import sys

from temporal_tenancy.cli import exit_process, open_streams

if __name__ == "__main__":
    open_streams()
    try:
        from processes.cli.app import main
    except KeyboardInterrupt:  # so early that nothing has been begun
        exit_process(130)
    exit_process(main(sys.argv[1:]))
