"""Every job for 66 tenants: 16 in shared tables, 40 in schemas, 10 in databases: `make fleet`.

It is no part of the suite, where test_fleet.py has a few of each. `FLEET=4,4,2` makes it smaller.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

import pytest
from temporalio.client import Client

from dev.devstack.postgres import DatabaseUrls, EmbeddedPostgres
from saas.database.environment import TENANT_DATA
from temporal_tenancy.core.stores import Isolation
from temporal_tenancy.stores.preparation import Preparation
from tests.fixtures.apart import Apart
from tests.fixtures.starter import Starter
from tests.fixtures.worker_process import StartWorker
from tests.system.faults import fleet_jobs
from tests.system.faults.fleet_jobs import Fleet, timed

SIZES: Final = dict(
    zip(Isolation, map(int, os.environ.get("FLEET", "16,40,10").split(",")), strict=True)
)
PATIENCE: Final = 1_800.0  # seconds
# One process serves all queues of all tenants: what it cannot begin is to wait at the server.
ARGUMENTS: Final = ("--max-activities", "20")


def prepare_stores(postgres: EmbeddedPostgres, urls: DatabaseUrls, apart: Apart) -> None:
    """Prepares all stores, by their migrations."""
    preparation = Preparation(
        urls.owner,
        application=[TENANT_DATA],
        tenant_url=urls.tenant,
        platform_url=urls.platform,
        relay_url=urls.relay,
        secrets=apart.secrets,
    )
    for _ in range(SIZES[Isolation.SCHEMA]):
        preparation.prepare(Isolation.SCHEMA)
    for number in range(SIZES[Isolation.DATABASE]):
        name = f"own{number}"
        given = postgres.create_database(name)
        apart.names.append(name)
        preparation.prepare(Isolation.DATABASE, name=name, at=given.owner)


@pytest.mark.timeout(0)
async def test_every_job_runs_for_the_whole_fleet(
    saas: Client,
    apart: Apart,
    postgres: EmbeddedPostgres,
    database_urls: DatabaseUrls,
    starter: Starter,
    start_worker: StartWorker,
    connection_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds: dict[str, float] = {}
    with timed(seconds, "preparing the stores"):
        prepare_stores(postgres, database_urls, apart)
    fleet = Fleet(postgres, database_urls, apart.database, apart.secrets)
    working = fleet_jobs.at_work(
        fleet, start_worker, connection_folder, tmp_path, monkeypatch, *ARGUMENTS
    )
    async with working as (variables, inbox):
        with timed(seconds, "signing up"):
            for isolation, count in SIZES.items():
                await fleet.sign_up(isolation, count, tmp_path / "secrets")
        worked = await fleet_jobs.run_all(fleet, saas, starter, variables, PATIENCE)
    wrong = worked.wrong(fleet)
    told = {
        "tenants": {str(isolation): count for isolation, count in SIZES.items()},
        "jobs": len(worked.ends) + len(fleet_jobs.asked_for()),
        "runs": len(worked.runs),
        "messages": len(fleet.messages()),
        "mails": len({mail["Message-ID"] for mail in inbox.messages}),
        "seconds": seconds | worked.seconds,
        "wrong": len(wrong),
    }
    print(json.dumps(told))
    assert wrong == []
