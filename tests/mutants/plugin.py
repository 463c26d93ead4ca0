"""A pytest plugin that seeds one mutant into a session, and records what fails.

It seeds the fault after the tests are collected: a fault that breaks an import would say nothing
about them.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from temporal_tenancy.postgres.connections import connect
from tests.mutants.faults import MUTANTS
from tests.mutants.mutant import Mutant
from tests.mutants.report import Failure, Report

MIGRATED = "migrated_template"  # the fixture that makes the schema


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("mutants")
    group.addoption("--mutant", choices=sorted(MUTANTS), help="the fault to seed")
    group.addoption("--report", type=Path, required=True, help="where to write the failures")


def pytest_configure(config: pytest.Config) -> None:
    name = config.getoption("--mutant")
    seeding = Seeding(MUTANTS[name] if name else None, config.getoption("--report"))
    config.pluginmanager.register(seeding)


class Seeding:
    """The seeding of one mutant, or of none for the control."""

    def __init__(self, mutant: Mutant | None, path: Path) -> None:
        self.mutant = mutant
        self.path = path
        self.report = Report(seeded=mutant is None or not mutant.schema)

    def pytest_collection_finish(self) -> None:
        if self.mutant is not None:
            self.mutant.seed()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, Any, Any]:
        database = yield
        if self.mutant is not None and self.mutant.schema and fixturedef.argname == MIGRATED:
            urls = request.getfixturevalue("postgres").urls(database)
            with connect(urls.superuser) as superuser:
                superuser.execute(self.mutant.schema)
            self.report.seeded = True
        return database

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.failed and call.excinfo is not None:
            failure = Failure(
                test=item.nodeid,
                phase=call.when,
                error=call.excinfo.typename,
                said=str(call.excinfo.value).partition("\n")[0],
            )
            self.report.failures.append(failure)
        return report

    def pytest_sessionfinish(self) -> None:
        self.path.write_text(self.report.model_dump_json())
