#!/usr/bin/env python3
"""A worker process; `worker.py --help` lists its options."""

from __future__ import annotations

import sys

from processes.interpreter import use_environment

if __name__ == "__main__":
    use_environment(__file__)
    from temporal_tenancy import ConfigurationError
    from temporal_tenancy.cli import ExitCode, exit_process

    try:
        from processes.worker.command import main
    except ConfigurationError as error:  # of a job's declaration
        print(f"ConfigurationError: {error}", file=sys.stderr)
        exit_process(ExitCode.REFUSED)
    exit_process(main(sys.argv[1:]))
