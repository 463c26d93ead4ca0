"""Tenants of all isolations side by side: every job of the reference SaaS runs for each of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from temporalio.client import Client

from dev.devstack.postgres import DatabaseUrls, EmbeddedPostgres
from temporal_tenancy.core.stores import Isolation
from tests.fixtures.apart import Apart
from tests.fixtures.starter import Starter
from tests.fixtures.worker_process import StartWorker
from tests.system.faults import fleet_jobs
from tests.system.faults.fleet_jobs import Fleet

# Two schemas, so that one may be mistaken for the other.
SIZES = {Isolation.SHARED: 1, Isolation.SCHEMA: 2, Isolation.DATABASE: 1}
PATIENCE = 300.0  # seconds


@pytest.fixture
def database_urls(postgres: EmbeddedPostgres, schema_template: str) -> Iterator[DatabaseUrls]:
    """A database with schemas that are prepared."""
    yield postgres.create_database("fleet", template=schema_template)
    postgres.drop_database("fleet")


async def test_every_job_runs_for_tenants_of_every_isolation(
    saas: Client,
    apart: Apart,
    starter: Starter,
    start_worker: StartWorker,
    connection_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for _ in range(SIZES[Isolation.DATABASE]):
        apart.prepare()
    fleet = Fleet(apart.postgres, apart.urls, apart.database, apart.secrets)
    working = fleet_jobs.at_work(fleet, start_worker, connection_folder, tmp_path, monkeypatch)
    async with working as (variables, inbox):
        for isolation, count in SIZES.items():
            await fleet.sign_up(isolation, count, tmp_path / "secrets")
        worked = await fleet_jobs.run_all(fleet, saas, starter, variables, PATIENCE)
    assert worked.wrong(fleet) == []
    assert len({mail["Message-ID"] for mail in inbox.messages}) >= len(fleet.tenants)
