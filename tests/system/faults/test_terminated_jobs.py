"""A worker is told to end while a job is at work: another goes on, whichever job it is.

Each job runs undisturbed for one tenant. For others like it, its worker ends in the middle of a
transaction, or after each of its activities has done its work and not yet said so. In the end all
tenants have the same: nothing is lost, nothing is doubled.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from psycopg import Connection
from temporalio.client import Client, WorkflowHandle

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.jobs import Job
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database
from tests.fixtures.held_locks import until_waiting
from tests.fixtures.outside import serving
from tests.fixtures.smtp_server import smtp_server
from tests.fixtures.worker_process import PATIENCE, StartWorker, WorkerProcess
from tests.system.faults.held_process import HELD
from tests.system.faults.job_runs import (
    InputMissing,
    Partner,
    add_tenants,
    jobs,
    left_by,
    prepare,
    require_inputs,
)

MODULE: Final = "tests.system.faults.held_process"

# Whatever a tenant of this test writes waits; what it reads does not.
_GATE: Final = """
    create function gate() returns trigger language plpgsql as $$
        begin
            if current_setting('app.tenant_id', true) like 'within-%' then
                perform pg_advisory_xact_lock_shared(1);
            end if;
            return null;
        end
    $$;
    do $$
        declare name text;
        begin
            for name in select format('%I.%I', schemaname, tablename) from pg_tables
                 where schemaname in ('public', 'tenancy')
            loop
                execute format('create trigger gate before insert or update or delete on %s '
                               'for each statement execute function gate()', name);
            end loop;
        end
    $$
"""


@contextmanager
def gate(url: str) -> Iterator[None]:
    """Has the writes of some tenants wait until the block ends, in their transactions."""
    with connect(url) as superuser:
        superuser.execute(_GATE)
        superuser.execute("select pg_advisory_lock(1)")  # until it disconnects
        yield


def tenant_of(mode: str, job: Job) -> str:
    return f"{mode}-{job.name.replace('.', '-').replace('_', '-')}"


def difference(
    found: dict[str, Counter[str]], expected: dict[str, Counter[str]]
) -> dict[str, dict[str, list[str]]]:
    """Returns what is there in vain and what is missing, by table; empty if nothing is wrong."""
    wrong = {}
    for table in found.keys() | expected.keys():
        there, wanted = found.get(table, Counter()), expected.get(table, Counter())
        if there != wanted:
            wrong[table] = {
                "in vain": list((there - wanted).elements()),
                "missing": list((wanted - there).elements()),
            }
    return wrong


async def activities_of(handle: WorkflowHandle[Any, Any]) -> int:
    """Returns how many activities a run has had."""
    history = await handle.fetch_history()
    kind = "activity_task_scheduled_event_attributes"
    return sum(event.HasField(kind) for event in history.events)  # type: ignore[arg-type]


async def until_held(worker: WorkerProcess, count: int) -> None:
    """Waits until so many activities have done their work."""
    async with asyncio.timeout(PATIENCE):
        while len(worker.lines(HELD)) < count:  # noqa: ASYNC110  # another process's file
            await asyncio.sleep(0.05)


async def end(worker: WorkerProcess) -> None:
    worker.send(signal.SIGTERM)
    assert await worker.exit_code() == 0, worker.text


class Runs:
    """Starts runs of all jobs, each for a tenant of its own."""

    def __init__(
        self,
        client: Client,
        database: Database,
        tenants: Tenants,
        everything: Connection,
        secrets: Path,
    ) -> None:
        self._client = client
        self._database = database
        self._tenants = tenants
        self._everything = everything
        self._secrets = secrets

    async def add(self, wanted: dict[str, Job]) -> dict[str, dict[str, Any]]:
        """Adds tenants, each for a job; returns its input."""
        names = {tenant: job.name for tenant, job in wanted.items()}
        await add_tenants(self._tenants, self._everything, self._secrets, names)
        return {tenant: await prepare(self._database, tenant, job) for tenant, job in names.items()}

    async def start(
        self, wanted: dict[str, Job], inputs: dict[str, dict[str, Any]]
    ) -> dict[str, WorkflowHandle[Any, Any]]:
        """Starts a run for each tenant."""
        return {
            tenant: await self._client.start_workflow(
                job.name, inputs[tenant], id=f"{tenant}/{job.name}/1", task_queue=job.queue
            )
            for tenant, job in wanted.items()
        }


async def test_every_job_goes_on_in_another_worker_and_has_one_effect(
    saas: Client,
    tenants: Tenants,
    database: Database,
    database_urls: DatabaseUrls,
    start_worker: StartWorker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    storage, secrets = tmp_path / "objects", tmp_path / "secrets"
    partner = Partner()
    with smtp_server() as inbox, connect(database_urls.superuser) as everything:
        async with serving(partner.app) as port:
            monkeypatch.setattr(Partner, "url", f"http://127.0.0.1:{port}/records")
            variables = {
                "STORAGE_URL": storage.as_uri(),
                "SECRETS_URL": secrets.as_uri(),
                "SMTP_URL": inbox.url,
                "OUTGOING_HTTP_ALLOW": f"127.0.0.1:{port}",
                "WEB_URL": "https://saas.example",
                "LINK_SECRET": "only-for-this-test",
                "WORKER_GRACE_SECONDS": "0",
                "TENANT_POOL_SIZE": "60",
                "TENANT_LOCK_TIMEOUT": "120",
                "TENANT_STATEMENT_TIMEOUT": "120",
            }
            for name, value in variables.items():
                monkeypatch.setenv(name, value)
            runs = Runs(saas, database, tenants, everything, secrets)
            calm = {tenant_of("calm", job): job for job in jobs()}
            inputs = await runs.add(calm)
            first = await start_worker("--max-activities", "60", **variables).until_ready()
            handles = await runs.start(calm, inputs)
            for handle in handles.values():
                await handle.result()
            counts = {calm[tenant]: await activities_of(handles[tenant]) for tenant in calm}
            await end(first)

            within = {tenant_of("within", job): job for job in jobs()}
            after = {
                tenant_of(f"after{number}", job): job
                for job, count in counts.items()
                for number in range(1, count + 1)
            }
            disturbed = within | after
            inputs = await runs.add(disturbed)
            with gate(database_urls.superuser):
                second = start_worker("--max-activities", "60", module=MODULE, **variables)
                await second.until_ready()
                handles = await runs.start(disturbed, inputs)
                await until_held(second, len(after))
                await until_waiting(database_urls.superuser, len(within))
                await end(second)
            third = await start_worker("--max-activities", "60", **variables).until_ready()
            for handle in handles.values():
                await handle.result()
            await end(third)
        expected = {job: left_by(everything, storage, tenant) for tenant, job in calm.items()}
        different = {
            tenant: wrong
            for tenant, job in disturbed.items()
            if (wrong := difference(left_by(everything, storage, tenant), expected[job]))
        }
        assert different == {}, json.dumps(different, indent=1)
        # A mail is sent at least once, always with the same id.
        mails = [tenant for tenant, job in (calm | disturbed).items() if job.name == "email.send"]
        assert len({each["Message-ID"] for each in inbox.messages}) == len(mails)


def test_a_job_without_an_input_is_named() -> None:
    with pytest.raises(InputMissing, match=r"no run of new\.job is known here.*Add its input"):
        require_inputs([*(job.name for job in jobs()), "new.job"])
