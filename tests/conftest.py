"""Fixtures of all tests: real servers, started for the session and stopped after it."""

pytest_plugins = [
    "tests.fixtures.postgres",
    "tests.fixtures.temporal",
    "tests.fixtures.saas",
    "tests.fixtures.log_lines",
    "tests.fixtures.worker_process",
    "tests.fixtures.starter",
]
