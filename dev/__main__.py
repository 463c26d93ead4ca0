"""`make dev` as a program."""

from __future__ import annotations

import sys

from temporal_tenancy.cli import begin_process, exit_process

if __name__ == "__main__":
    begin_process()
    try:
        from dev.command import main
    except KeyboardInterrupt:  # so early that nothing has been begun
        exit_process(130)
    exit_process(main(sys.argv[1:]))
