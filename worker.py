#!/usr/bin/env python3
"""A worker process; `worker.py --help` lists its options."""

from __future__ import annotations

import sys

from processes.interpreter import use_environment

if __name__ == "__main__":
    use_environment(__file__)
    from temporal_tenancy.cli import exit_process, importing_code

    with importing_code():
        from processes.worker.command import main
    exit_process(main(sys.argv[1:]))
