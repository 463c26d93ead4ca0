#!/usr/bin/env python3
"""The command line: `starter.py --help` shows what there is."""

from __future__ import annotations

import sys

from processes.interpreter import use_environment

if __name__ == "__main__":
    use_environment(__file__)
    from temporal_tenancy.cli import begin_process, exit_process, importing_code

    begin_process()
    try:
        with importing_code():
            from processes.cli.app import main
    except KeyboardInterrupt:  # so early that nothing has been begun
        exit_process(130)
    exit_process(main(sys.argv[1:]))
