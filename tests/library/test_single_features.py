"""Each feature of the library can be used alone."""

from __future__ import annotations

import pytest
from temporalio.client import Client

from dev.devstack.temporal_server import TemporalDevServer
from temporal_tenancy import Database, Feature, TenancyPlugin
from temporal_tenancy.dead_letters import dead_letters, failed_runs_without_database
from temporal_tenancy.deployments import deployments
from temporal_tenancy.everything import everything, sessions
from temporal_tenancy.outbox import outbox
from temporal_tenancy.testing import STANDARD_PLAN, InMemoryDirectory, make_tenant, tenancy_client
from temporal_tenancy.ticks.fan_out import fan_out
from temporal_tenancy.ticks.reconcile import reconcile
from tests.fixtures.jobs import hops as jobs
from tests.fixtures.temporal import make_worker

ALONE = [
    dead_letters(),
    deployments(),
    failed_runs_without_database(),
    fan_out(),
    outbox(),
    reconcile(),
]


@pytest.mark.parametrize("feature", ALONE, ids=lambda feature: feature.name)
async def test_a_worker_serves_one_feature_and_no_other(
    temporal: TemporalDevServer, queue: str, feature: Feature
) -> None:
    plugin = TenancyPlugin(
        directory=InMemoryDirectory([make_tenant("acme", plan=STANDARD_PLAN)]),
        features=[feature],
        passthrough=["tests.fixtures.jobs.marks"],
        exempt=jobs.EXEMPT,
    )
    client = await tenancy_client(await Client.connect(temporal.address), plugin)
    async with make_worker(
        client, queue, workflows=[jobs.Echo], activities=[jobs.tell_tenant]
    ) as worker:
        assert worker._workflow_worker is not None
        served = {each.cls for each in worker._workflow_worker._workflows.values()}
        functions = worker._activity_worker._activities if worker._activity_worker else {}
    assert served == {jobs.Echo, *feature.workflows}
    own = {each.fn for each in functions.values()} - {jobs.tell_tenant}
    assert own >= set(feature.activities)
    assert own == set(feature.activities) or feature.of_worker is not None
    assert plugin.migrations == feature.migrations


def test_everything_is_its_features() -> None:
    database = Database(tenant_url="postgresql+psycopg://nobody@127.0.0.1:1/none")
    names = [feature.name for feature in everything(database)]
    features = [sessions(database), fan_out(), outbox(), dead_letters(), reconcile(), deployments()]
    assert names == [feature.name for feature in features]
