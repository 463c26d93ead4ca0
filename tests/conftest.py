"""Fixtures of all tests: real servers, started for the session and stopped after it."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.conformance import Mode, modes_of
from tests.fixtures.memory import keep_temporary_files_in_memory

HERE = Path(__file__).parent

# Applications of strangers, with tests of their own: they run in environments of their own.
collect_ignore_glob = ["strangers/*_shop"]

# How long an example takes says how busy the machine is.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")

# The longest modules, which begin first, so that none of them is what all wait for in the end.
LONG = (
    "strangers",
    "system/faults",
    "system/upgrade",
    "system/dev",
    "system/cli",
    "system/web",
    "system/worker",
    "isolation",
    "library/outbox",
    "library/ticks",
    "library/dead_letters",
    "library/postgres",
    "library/sdk",
    "saas/jobs",
)

# Each of these fills the machine with servers whose waits are short: side by side, with as many
# processes, each would take the others' load for its own fault.
ONE_AFTER_THE_OTHER = (
    "system/faults/test_campaign.py",
    "system/faults/test_message_campaign.py",
    "system/faults/test_deadly_message.py",
    "system/faults/test_message_checker.py",
)

pytest_plugins = [
    "tests.fixtures.pgbouncer",
    "tests.fixtures.modes",
    "tests.fixtures.postgres",
    "tests.fixtures.redis",
    "tests.fixtures.stores",
    "tests.fixtures.temporal",
    "tests.fixtures.app",
    "tests.fixtures.relay",
    "tests.fixtures.apart",
    "tests.fixtures.wheel",
]
# What brings the reference SaaS in: the library's tests do without.
OF_THE_SAAS = [
    "tests.fixtures.saas",
    "tests.fixtures.process_logs",
    "tests.fixtures.worker_process",
    "tests.fixtures.starter",
    "tests.fixtures.web",
    "tests.fixtures.contact_files",
]


def pytest_configure() -> None:
    """Lets a hangup end what the tests start, also where nohup or a CI's shell ignores it.

    What they start reads the bytecode that is there: compiling it anew takes seconds each time.
    """
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    keep_temporary_files_in_memory()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With SKIPS=fail a test that skips what is not installed fails."""
    report = yield
    if report.skipped and os.environ.get("SKIPS") == "fail" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
    return report


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> None:
    """Loads the fixtures of the reference SaaS with the first file that is not the library's."""
    room, *inside = file_path.relative_to(HERE).parts
    if inside and room != "library":
        for name in OF_THE_SAAS:
            parent.config.pluginmanager.import_plugin(name)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs the tests of the table in `tests.conformance` in each of their modes."""
    if "mode" in metafunc.fixturenames:
        modes = modes_of(metafunc)
        if modes is not None:
            ids = [pytest.HIDDEN_PARAM if mode is Mode.SHARED else str(mode) for mode in modes]
            metafunc.parametrize("mode", modes, indirect=True, scope="module", ids=ids)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest modules first."""
    items.sort(key=_place)  # stable: a module's own order stays


class Schedule(LoadScopeScheduling):
    """Gives a module's tests to one process, and what may not run side by side to the same one."""

    def _split_scope(self, nodeid: str) -> str:
        scope = super()._split_scope(nodeid)
        return "one after the other" if scope.endswith(ONE_AFTER_THE_OTHER) else scope


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Schedule | None:
    """Takes the place of `--dist loadscope`."""
    return Schedule(config, log) if config.getoption("dist") == "loadscope" else None


def _place(item: pytest.Item) -> int:
    module = item.path.relative_to(HERE).as_posix()
    places = (number for number, folder in enumerate(LONG) if module.startswith(f"{folder}/"))
    return next(places, len(LONG))
