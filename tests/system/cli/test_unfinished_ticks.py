"""Which ticks `starter.py catch-up` regards as unfinished."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import text
from temporalio.client import Client

from processes.cli.program import load
from temporal_tenancy.cli import Program, catch_up, use_program
from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.core.directory import use_directory
from temporal_tenancy.postgres.database import Database, use_database
from temporal_tenancy.ticks.schedules import ScheduledJob
from tests.library.ticks.test_fan_out_times import DAILY, EIGHT, backfill, three_zones  # noqa: F401  # a fixture

pytestmark = pytest.mark.schedules


@pytest.mark.usefixtures("controlled_worker", "three_zones")
async def test_a_tick_of_which_all_planned_have_succeeded_may_still_have_missed_somebody(
    app: Client, database: Database
) -> None:
    scheduled = ScheduledJob(DAILY, EIGHT, local_time=True)
    program = Program(load=lambda: replace(load(), schedules=[scheduled]))
    await backfill(app, scheduled, "2013-05-01T12:00", "2013-05-01T12:15")
    with (
        use_program(program),
        use_database(database),
        use_directory(ControlPlaneDirectory(database)),
    ):
        assert await catch_up.unfinished(None, None, datetime.now(UTC)) == []
        async with database.platform_session("test") as session:
            await session.execute(
                text("update tenancy.tenants set status_since = '2013-01-01' where id = 'lulu'")
            )
        [(job, tick)] = await catch_up.unfinished(None, None, datetime.now(UTC))
    assert (job.name, tick.tick, tick.state) == (DAILY, "2013-04-30", "ended")
