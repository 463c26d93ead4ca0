"""worker.py does not start where it could not work, and says why in one sentence.

All of them are started at once, since each takes seconds to load.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import psycopg
import pytest
from sqlalchemy import make_url
from temporalio.api.operatorservice.v1 import (
    ListSearchAttributesRequest,
    RemoveSearchAttributesRequest,
)
from temporalio.client import Client

from dev.devstack.postgres import DatabaseUrls, EmbeddedPostgres
from tests.fixtures.worker_process import StartWorker

CANARY = "canary-3f1c"
CLOSED = f"postgresql+psycopg://tenancy_tenant:{CANARY}@127.0.0.1:1/saas"


@dataclass(frozen=True)
class Case:
    code: int
    sentence: str
    arguments: list[str] = field(default_factory=list)
    variables: dict[str, str | None] = field(default_factory=dict)


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port that is in use."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def cases(
    taken_port: int, postgres: EmbeddedPostgres, database_urls: DatabaseUrls, unmigrated: str
) -> dict[str, Case]:
    empty = postgres.urls(unmigrated)
    wrong_password = make_url(database_urls.tenant).set(password=CANARY)
    return {
        "the owner's URL": Case(
            2,
            "ExcessRights: DATABASE_URL is set, but a worker must not have the owner's "
            "credentials. Unset it",
            variables={"DATABASE_URL": CLOSED},
        ),
        "an unknown queue": Case(
            2,
            'UsageError: "express" is not a queue. The queues are critical, default, bulk.',
            arguments=["--queue", "bulk,express"],
        ),
        "a target of slots that look at none": Case(
            2,
            'UsageError: --target-cpu needs "--slots resource". Add that, or leave --target-cpu '
            "out.",
            arguments=["--target-cpu", "0.5"],
        ),
        "a target beyond the machine": Case(
            2,
            "UsageError: --target-memory must be above 0 and at most 1, a share of the machine's",
            arguments=["--slots", "resource", "--target-memory", "80"],
        ),
        "a wrong setting": Case(
            2,
            "ConfigurationError: the environment is invalid: WORKER_GRACE_SECONDS",
            variables={"WORKER_GRACE_SECONDS": "-1"},
        ),
        "a port in use": Case(
            3,
            f"PortInUse: port {taken_port} on 127.0.0.1 is in use. Stop the program that listens "
            "there, or choose another port for the worker's health with --health-port.",
            arguments=["--health-port", str(taken_port)],
        ),
        "no database": Case(
            3,
            "NotReachable: the database 127.0.0.1:1/saas does not answer tenancy_tenant",
            variables={"TENANT_DATABASE_URL": CLOSED},
        ),
        "a wrong password": Case(
            3,
            "NotReachable: the database 127.0.0.1",
            variables={"TENANT_DATABASE_URL": wrong_password.render_as_string(hide_password=False)},
        ),
        "no Temporal server": Case(
            3,
            "NotReachable: the Temporal server 127.0.0.1:1 does not answer",
            variables={"TEMPORAL_ADDRESS": "127.0.0.1:1", "TEMPORAL_API_KEY": None},
        ),
        "migrations that are behind": Case(
            3,
            "MigrationsBehind: the control plane is at its beginning, and the code needs",
            variables={
                "TENANT_DATABASE_URL": empty.tenant,
                "PLATFORM_DATABASE_URL": empty.platform,
            },
        ),
        "no URL of a database": Case(
            2,
            "ConfigurationError: ",
            variables={"TENANT_DATABASE_URL": f"http://:{CANARY}@localhost"},
        ),
        "no URL to listen at": Case(
            2,
            "ConfigurationError: RELAY_LISTEN_DATABASE_URL: ",
            arguments=["--relay"],
            variables={
                "RELAY_DATABASE_URL": database_urls.relay,
                "RELAY_LISTEN_DATABASE_URL": f"http://:{CANARY}@localhost",
            },
        ),
        "no folder of connections": Case(
            2,
            "ConfigurationError: CONNECTIONS_URL must be file:///folder",
            variables={"CONNECTIONS_URL": f"s3://{CANARY}"},
        ),
        "no URL of Redis": Case(
            2,
            "ConfigurationError: REDIS_URL: the URL of Redis has the form",
            variables={"REDIS_URL": f"http://:{CANARY}@localhost:6379"},
        ),
        "a role with too many rights": Case(
            1,
            "ExcessRights: ",
            variables={"TENANT_DATABASE_URL": database_urls.owner},
        ),
    }


@pytest.fixture
def unmigrated(postgres: EmbeddedPostgres, migrated_template: str) -> Iterator[str]:
    """A database without tables, to which the runtime roles may connect."""
    name = "unmigrated"
    urls = postgres.create_database(name)
    with psycopg.connect(urls.owner.replace("+psycopg", ""), autocommit=True) as owner:
        owner.execute(f"grant connect on database {name} to tenancy_tenant, tenancy_platform")
    yield name
    postgres.drop_database(name)


async def test_a_worker_that_cannot_work_says_why_and_exits(
    cases: dict[str, Case], start_worker: StartWorker
) -> None:
    started = {
        what: start_worker(*case.arguments, **case.variables) for what, case in cases.items()
    }
    for what, worker in started.items():
        case = cases[what]
        assert await worker.exit_code() == case.code, (what, worker.text)
        told = [line for line in worker.text.splitlines() if not line.startswith("{")]
        assert len(told) == 1, (what, worker.text)
        assert told[0].startswith(case.sentence), (what, told)
        assert told[0].endswith((".", ".)")), (what, told)
        assert CANARY not in worker.text, what
        assert not worker.lines("worker.started"), what


@pytest.fixture
async def without_search_attributes(raw_client: Client, namespace: str) -> str:
    await raw_client.operator_service.remove_search_attributes(
        RemoveSearchAttributesRequest(namespace=namespace, search_attributes=["TenantId", "Job"])
    )
    return namespace


async def test_a_worker_and_a_relay_register_nothing_and_say_which_command_does(
    without_search_attributes: str,
    raw_client: Client,
    start_worker: StartWorker,
    database_urls: DatabaseUrls,
) -> None:
    started = (
        start_worker("--queue", "bulk"),
        start_worker("--relay", RELAY_DATABASE_URL=database_urls.relay),
    )
    for worker in started:
        assert await worker.exit_code() == 3, worker.text
        assert (
            f"SearchAttributesMissing: the namespace '{without_search_attributes}' has no search "
            "attribute Job and TenantId of type Keyword."
        ) in worker.text
        assert '"tenancy schedules apply" does so' in worker.text
    listed = await raw_client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=without_search_attributes)
    )
    assert not {"TenantId", "Job"} & set(listed.custom_attributes)


async def test_a_workers_start_changes_nothing_on_the_server(
    start_worker: StartWorker, raw: Client
) -> None:
    worker = await start_worker("--queue", "critical,default,bulk").until_ready()
    assert (await raw.count_workflows()).count == 0
    assert [schedule async for schedule in await raw.list_schedules()] == []
    worker.send(signal.SIGTERM)
    assert await worker.exit_code() == 0
