"""A bad build at 1 % of 1,000 tenants. Not part of the suite: `make deploys` runs it."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from sqlalchemy import insert
from temporalio.client import Client

from temporal_tenancy.cli import deployments as commands
from temporal_tenancy.control_plane.tables import TenantRow
from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.deployments import Cohort
from temporal_tenancy.deployments.watch import watch_id
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.ticks.fan_out import FanOut, FanOutInput
from tests.fixtures.app import rows_of
from tests.fixtures.jobs import broken_build
from tests.fixtures.jobs.fan_out_control import Control
from tests.library.deployments.test_versioned_workers import (
    JOB,
    NEW,
    OLD,
    QUEUE,
    app,
    fan_out,
    program,
    sink,
    until,
    workers,
)

__all__ = ["app", "program", "sink"]  # fixtures

TENANTS = 1_000
MIN_RUNS = 5  # before a release is compared
HALTED_WITHIN = 60.0  # seconds from the failure that is the last of them


async def _have_failed() -> bool:
    return len(broken_build.runs) >= MIN_RUNS


@pytest.mark.timeout(3600)
async def test_a_bad_build_at_one_percent_of_a_thousand_tenants(
    app: Client,
    database: Database,
    control: Control,
    program: None,
) -> None:
    ids = [f"t{number:05}" for number in range(TENANTS)]
    rows = [
        {"id": id, "name": id, "status": TenantStatus.ACTIVE, "plan_id": "enterprise"} for id in ids
    ]
    async with database.platform_session("add tenants in a test") as session:
        await session.execute(insert(TenantRow), rows)
    share = Cohort(share=0.01)
    cohort = {tenant for tenant in ids if share.has(tenant, NEW.build_id)}
    broken_build.runs.clear()
    async with workers(app, OLD, NEW, activities=broken_build.ACTIVITIES):
        await commands.ramp(
            NEW.build_id,
            tenants=None,
            share="1%",
            max_failures="10%",
            max_slowdown=3.0,
            min_runs=MIN_RUNS,
            deployment=None,
        )
        tick = await app.start_workflow(
            FanOut.run,
            FanOutInput(job=JOB, tick="a"),
            id=f"platform/{JOB}/tick-a-1",
            task_queue=QUEUE,
        )
        await until(_have_failed, patience=600.0)
        failed_at = time.monotonic()
        halted = await app.get_workflow_handle(watch_id(NEW)).result()
        took = time.monotonic() - failed_at
        print(f"halted after {took:.1f} s: {halted['reason']}")
        assert (halted["state"], took < HALTED_WITHIN) == ("halted", True)
        result = await tick.result()
        ran = await rows_of(database, JOB, "a")
        elsewhere = {row.tenant_id for row in ran if row.build_id is not None} - cohort
        on_new = set(broken_build.runs)
        print(
            f"{len(cohort)} tenants in the cohort, {len(on_new)} ran on it, {result.failed} failed"
        )
        assert (elsewhere, on_new - cohort) == (set(), set())
        # A tenant whose turn came after the halt ran on the old build.
        assert {row.tenant_id for row in ran if row.error_type == "BadBuild"} == on_new
        # Others fail only where the machine is too busy to run an activity in a minute.
        assert result.succeeded == TENANTS - result.failed
        began = time.monotonic()
        caught_up = await fan_out(app, "a", run="2")
        print(f"caught up after {timedelta(seconds=time.monotonic() - began)}")
        assert (caught_up.succeeded, caught_up.failed) == (result.failed, 0)
        assert caught_up.already == TENANTS - result.failed
        assert set(control.runs) == set(ids)
        doubled = {tenant for tenant, runs in control.runs.items() if runs > 1}
        assert doubled <= {row.tenant_id for row in ran if row.state == "failed"} - on_new
