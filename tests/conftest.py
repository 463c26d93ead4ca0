"""Fixtures of all tests: real servers, started for the session and stopped after it."""

from __future__ import annotations

import signal

pytest_plugins = [
    "tests.fixtures.postgres",
    "tests.fixtures.temporal",
    "tests.fixtures.saas",
    "tests.fixtures.relay",
    "tests.fixtures.log_lines",
    "tests.fixtures.worker_process",
    "tests.fixtures.starter",
    "tests.fixtures.web",
    "tests.fixtures.contact_files",
]


def pytest_configure() -> None:
    """Lets a hangup end what the tests start, also where nohup or a CI's shell ignores it."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
