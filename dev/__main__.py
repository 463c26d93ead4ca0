"""`make dev` as a program."""

from __future__ import annotations

import sys

from temporal_tenancy.cli import begin_process, exit_process

if __name__ == "__main__":
    begin_process()
    try:
        from dev.command import main

        code = main(sys.argv[1:])
    except KeyboardInterrupt:  # so early that nothing has been begun
        code = 130
    except SystemExit as ending:  # a signal's, or a wrong option's
        code = ending.code if isinstance(ending.code, int) else 1
    exit_process(code)
