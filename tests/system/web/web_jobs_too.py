"""starter.py with the job of the HTTP API's tests."""

from __future__ import annotations

import sys

from processes.cli.app import main
from temporal_tenancy.cli import exit_process
from tests.system.web import web_jobs  # noqa: F401  # its job is known once it is imported

if __name__ == "__main__":
    exit_process(main(sys.argv[1:]))
