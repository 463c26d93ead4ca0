"""The real server lists only the tenant's workflows in its scope, whatever the filter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from dev.devstack.temporal_server import TemporalDevServer
from temporal_tenancy.core.errors import TenantMismatch
from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.everything import TenancyPlugin
from temporal_tenancy.testing import InMemoryDirectory, make_tenant
from tests.fixtures.jobs import hops as jobs

OWN, OTHER, CAPITALS = "globex", "acme", "GLOBEX"


@pytest.fixture
async def here(
    temporal: TemporalDevServer,
    namespace: str,
    plugin: TenancyPlugin,
    directory: InMemoryDirectory,
) -> Client:
    """A client of a namespace that holds only two open workflows of each of three tenants."""
    directory.tenants[CAPITALS] = make_tenant(CAPITALS)
    client = await Client.connect(temporal.address, namespace=namespace, plugins=[plugin])
    for tenant in (OWN, OTHER, CAPITALS):
        for key in ("1", "2"):
            await client.start_workflow(
                jobs.Echo.run,
                jobs.EchoInput(tenant_id=tenant),
                id=f"{tenant}/echo.tell/{key}",
                task_queue="served-by-nobody",
            )
    while (await client.count_workflows()).count < 6:
        """Until the server's lists have them."""
    return client


# Each of these once matched another tenant's workflows, or is close to one that did.
HIDES = ["", "/*{}*/", "--{}\n", "#{}\n", "//{}\n", "'{}'", '"{}"', "`{}`", "/*!{}*/"]
ATOMS = [
    "Job = 'x'",
    "Job != 'x'",
    'Job = "echo.tell"',
    "TenantId = 'acme'",
    "TenantId != 'globex'",
    "TenantId = 'GLOBEX'",
    "WorkflowId STARTS_WITH 'GLOBEX/'",
    "TenantId IS NOT NULL",
    "WorkflowId STARTS_WITH 'acme'",
    "ExecutionStatus = 'Running'",
    "NOT TenantId = 'globex'",
    "Job = ''",
    "Job = ''''",
    "Job = 'x'''",
    r"Job = '\''",
    r"Job = '\\'",
    r'Job = "\""',
    'Job = "\'"',
    "Job = '\"'",
    "HistoryLength >= -1",
    "StartTime BETWEEN '2000-01-01T00:00:00Z' AND '2100-01-01T00:00:00Z'",
    "Job IN ('echo.tell', 'x')",
    "`TenantId` = 'acme'",
    "TemporalNamespaceDivision IS NULL",
]
atoms = st.sampled_from(ATOMS)
joins = st.sampled_from([" OR ", " AND ", " or\n", "\tAND NOT "])


@st.composite
def plain(draw: st.DrawFn) -> str:
    """Filters that a user might write."""
    text = draw(atoms)
    for _ in range(draw(st.integers(0, 3))):
        text = f"{text}{draw(joins)}{draw(atoms)}"
        if draw(st.booleans()):
            text = f"({text})"
    return text + draw(st.sampled_from(["", "", " GROUP BY ExecutionStatus", " ORDER BY Job"]))


@st.composite
def led_out(draw: st.DrawFn) -> str:
    """Filters that close parentheses they did not open, in disguise."""
    hide, show = (draw(st.sampled_from(HIDES)) for _ in range(2))
    opening = hide.format("(") if hide else draw(st.sampled_from(["", r"'\'(", "'''("]))
    closing = show.format(")") if show else draw(st.sampled_from(["", ")", "#"]))
    return f"{draw(atoms)} {opening}){draw(joins)}({draw(atoms)} {closing}"


soup = st.lists(
    st.sampled_from([*"'\"`\\()-#/*,;=!<>\n ", "--", "/*", "*/", " OR ", " GROUP BY ", *ATOMS]),
    max_size=8,
).map("".join)


async def found(client: Client, query: str) -> set[str] | None:
    """Returns whose workflows are listed and counted in globex's scope; None: rejected."""
    with enter(TenantScope(OWN)):
        try:
            listed = {run.id.partition("/")[0] async for run in client.list_workflows(query)}
            count = (await client.count_workflows(query)).count
        except TenantMismatch:
            return None
        except RPCError as error:
            if error.status is not RPCStatusCode.INVALID_ARGUMENT:
                raise
            return None
    assert count <= 2
    return listed


async def each(test: Callable[[str], Coroutine[Any, Any, None]], queries: Any) -> None:
    """Runs `test` with examples of a strategy: Hypothesis waits in a thread for this loop."""
    loop = asyncio.get_running_loop()

    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
    @given(queries)
    @example("Job = 'x' /* ( */ ) OR (TenantId = 'acme' /* ) */")
    @example("Job = 'x' -- (\n) OR (TenantId = 'acme' -- )\n")
    @example("Job = 'x' # (\n) OR (TenantId = 'acme' # )\n")
    @example("Job = '''(' ) OR (TenantId = 'acme' OR Job = ')'''")
    @example(r"Job = '\'(' ) OR (TenantId = 'acme' OR Job = ')\''")
    @example("Job = 'x' -- ' \n OR TenantId = 'acme' -- '")
    def run(query: str) -> None:
        asyncio.run_coroutine_threadsafe(test(query), loop).result()

    await asyncio.to_thread(run)


@pytest.mark.parametrize("queries", [plain(), led_out(), soup], ids=["plain", "led out", "soup"])
async def test_no_filter_leads_out_of_the_tenant(here: Client, queries: Any) -> None:
    async def stays(query: str) -> None:
        assert (await found(here, query) or set()) <= {OWN}, query

    await each(stays, queries)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "Job = 'echo.tell'",
        'ExecutionStatus = "Running" OR Job = "x"',
        "NOT (Job = 'x' OR Job IN ('y', 'z'))",
        "WorkflowId STARTS_WITH 'globex/' AND TenantId IS NOT NULL",
        "StartTime BETWEEN '2000-01-01T00:00:00Z' AND '2100-01-01T00:00:00Z'",
        "StartTime > '2000-01-01T00:00:00Z' AND `TenantId` != 'acme'",
    ],
)
async def test_a_filter_that_could_be_meant_finds_what_it_asks_for(
    here: Client, query: str
) -> None:
    with enter(TenantScope(OWN)):
        assert {run.id async for run in here.list_workflows(query)} == {
            "globex/echo.tell/1",
            "globex/echo.tell/2",
        }
        assert (await here.count_workflows(query)).count == 2


async def test_a_count_by_status_is_the_tenants(here: Client) -> None:
    with enter(TenantScope(OWN)):
        counted = await here.count_workflows("Job = 'echo.tell' GROUP BY ExecutionStatus")
    assert [(group.group_values, group.count) for group in counted.groups] == [(["Running"], 2)]


async def test_a_list_that_was_asked_for_in_a_tenants_scope_stays_in_it(here: Client) -> None:
    with enter(TenantScope(OWN)):
        listed = here.list_workflows("Job = 'echo.tell'", page_size=1)
    assert {run.id.partition("/")[0] async for run in listed} == {OWN}
