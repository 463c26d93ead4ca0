"""How `starter.py explain` explains a run."""

from __future__ import annotations

import pytest
from temporalio.client import Client
from temporalio.worker import Worker

from temporal_tenancy.cli._server_access import Temporal
from temporal_tenancy.cli.explanations import _look
from temporal_tenancy.control_plane.tenants import Tenants


async def test_a_result_that_nobody_can_decode_is_explained(
    app: Client, tenants: Tenants, controlled_worker: Worker
) -> None:
    await tenants.add("mumbles", "mumbles", plan="enterprise")
    id = "mumbles/test.monstrous/a"
    started = await app.start_workflow(
        "test.monstrous", {"tenant_id": "mumbles"}, id=id, task_queue="bulk"
    )
    with pytest.raises(KeyError, match="of/nobody"):
        await started.result()
    findings = await _look(Temporal(app, None), id)
    assert (findings.kind, findings.input, findings.result) == (
        "tenant job",
        {"tenant_id": "mumbles"},
        None,
    )
