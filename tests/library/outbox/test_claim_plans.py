"""The relay's statements use its indexes, whatever the table looked like when last analysed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

import psycopg
import pytest
from sqlalchemy import Engine, event, make_url, select
from sqlalchemy.ext.asyncio import AsyncSession

from dev.devstack.postgres import EmbeddedPostgres
from temporal_tenancy.outbox import OutboxMessage, RelayOptions
from temporal_tenancy.outbox import _working as working
from temporal_tenancy.outbox.relay import queue
from temporal_tenancy.outbox.relay._server_settings import SERVER_SETTINGS
from temporal_tenancy.outbox.relay.messages import Failed, Message, Unit
from temporal_tenancy.postgres.database import Database, tenant_session
from tests.fixtures.postgres import within

WAITING: Final = 50_000  # messages of one tenant
OTHERS: Final = 50  # tenants with a few messages each
IN_WORK: Final = 5_000  # messages that workflows handle
BATCH: Final = 100  # messages per claim
# Rows that a statement may read per row it takes: the row, its lock, and skipped rows.
READS: Final = 5
LEASE: Final = timedelta(minutes=1)
LOST: Final = RelayOptions().lost_page

_FILL: Final = f"""
    insert into tenancy.outbox_messages (tenant_id, job, key, payload)
    select 'large', 'test.note', n, '{{}}'::jsonb from generate_series(1, {WAITING}) as n
    union all
    select 'small-' || n % {OTHERS}, 'test.note', n, '{{}}' from generate_series(1, 200) as n
"""
# Before the tenant has come.
_HISTORY: Final = """
    insert into tenancy.outbox_messages (tenant_id, job, key, payload, status, completed_at)
    select 'former-' || n % 4, 'test.note', n, '{}', 'completed', now()
    from generate_series(1, 20000) as n
"""
# In hand: each of these workflows handles a hundred messages.
_IN_HAND: Final = f"""
    insert into tenancy.outbox_messages
        (tenant_id, job, key, payload, status, lease_until, workflow_id)
    select 'large', 'test.note', 'in hand ' || n, '{{}}', 'processing', now() + interval '1 hour',
        'large/test.note/messages-of-' || n / 100
    from generate_series(1, {IN_WORK}) as n
"""
_COMPLETED: Final = """
    update tenancy.outbox_messages set status = 'completed', completed_at = now() - interval '1
        hour'
    where tenant_id = 'large' and key::int <= 2000
"""

Statement = Callable[[AsyncSession, list[Message]], Awaitable[object]]


async def _claim_of_many(session: AsyncSession, _: list[Message]) -> object:
    tenants = await queue.waiting_tenants(session, after="", limit=OTHERS)
    return await queue.claim(session, dict.fromkeys(tenants, 2), lease=LEASE)


STATEMENTS: Final[dict[str, Statement]] = {
    "waiting_tenants": lambda session, _: queue.waiting_tenants(session, after="", limit=64),
    "claim": lambda session, _: queue.claim(session, {"large": BATCH}, lease=LEASE),
    "claim_of_many": _claim_of_many,
    "claim_more": lambda session, _: queue.claim_more(
        session, {("large", "test.note"): BATCH}, lease=LEASE
    ),
    "lost": lambda session, _: queue.lost(session, rows=LOST),
    "more_lost": lambda session, _: queue.lost(session, rows=LOST, after="0044-03-15 BC"),
    "take_lost": lambda session, taken: queue.take_lost(
        session, (taken[0].tenant_id, taken[0].id), lease=LEASE
    ),
    "hand_over": lambda session, taken: queue.hand_over(
        session, [Unit("large/test.note/messages-1", taken, coalesced=True)], lease=LEASE
    ),
    "extend": lambda session, taken: queue.extend(
        session, replace(taken[0], workflow_id="large/test.note/messages-1"), lease=LEASE
    ),
    "together_with": lambda session, taken: queue.together_with(
        session, replace(taken[0], workflow_id="large/test.note/messages-of-7")
    ),
    "extend_full": lambda session, taken: queue.extend(
        session, replace(taken[0], workflow_id="large/test.note/messages-of-7"), lease=LEASE
    ),
    "complete": queue.RELAY.complete,
    "release": queue.release,
    "fail": lambda session, taken: queue.RELAY.fail(
        session, [Failed(each, "Wrong", "it was wrong.", LEASE) for each in taken]
    ),
    "prune": lambda session, _: queue.prune(session, keep=timedelta(minutes=1)),
}


# Of the workflow that handles several messages, in its tenant's sessions.
_OWN: Final = "large/test.note/messages-of-7"
_HOLDER: Final = working.holder(_OWN)
OF_A_TENANT: Final[dict[str, Statement]] = {
    "load": lambda session, own: working.load(session, [each.id for each in own], _OWN),
    "complete": _HOLDER.complete,
    "fail": lambda session, own: _HOLDER.fail(
        session, [Failed(each, "Wrong", "it was wrong.", LEASE) for each in own]
    ),
    "begin_again": lambda session, own: working.begin_again(session, own[0], _OWN),
}


@dataclass(frozen=True)
class Filled:
    """An outbox with a backlog."""

    database: Database  # as the relay's role writes it
    taken: list[Message]  # claimed, but not marked
    own: list[Message]  # those that one workflow handles
    analysed: str  # when


@pytest.fixture(scope="module", params=["empty", "others", "full"])
async def filled(
    request: pytest.FixtureRequest, postgres: EmbeddedPostgres, migrated_template: str
) -> AsyncIterator[Filled]:
    """The outbox, analysed when it was empty, when it had other tenants' rows, and when full."""
    name = f"claim_plans_{request.param}"
    urls = postgres.create_database(name, template=migrated_template)
    target = make_url(urls.superuser).set(drivername="postgresql")
    async with await psycopg.AsyncConnection.connect(
        target.render_as_string(hide_password=False), autocommit=True
    ) as everything:
        await everything.execute(
            "alter table tenancy.outbox_messages set (autovacuum_enabled = false)"
        )
        if request.param == "others":
            await everything.execute(_HISTORY)
        if request.param != "full":
            await everything.execute("analyze tenancy.outbox_messages")
        await everything.execute(_FILL.encode())
        await everything.execute(_COMPLETED)
        await everything.execute(_IN_HAND.encode())
        if request.param == "full":
            await everything.execute("analyze tenancy.outbox_messages")
    database = Database(
        tenant_url=urls.tenant, platform_url=urls.relay, platform_settings=SERVER_SETTINGS
    )
    async with database.platform_session("claim in a test") as session:
        taken = await queue.claim(session, {"large": BATCH}, lease=timedelta(0))
    with within(database, "large"):
        async with tenant_session() as session:
            ids = await session.scalars(
                select(OutboxMessage.id).where(OutboxMessage.workflow_id == _OWN)
            )
            own = await working.load(session, ids.all(), _OWN)
    assert len(own) == BATCH
    yield Filled(database, taken, own, request.param)
    await database.dispose()
    postgres.drop_database(name)


@pytest.mark.parametrize("name", STATEMENTS)
async def test_a_statement_reads_what_it_takes_and_not_the_backlog(
    name: str, filled: Filled
) -> None:
    plans = await _plans(STATEMENTS[name], filled)
    assert plans
    for plan in plans:
        nodes = list(_nodes(plan))
        kinds = {node["Node Type"] for node in nodes}
        assert not kinds & {"Seq Scan", "Bitmap Heap Scan", "Hash Join", "Merge Join"}, plan
        most = queue.PRUNE_ROWS if name == "prune" else BATCH
        assert all(node["Actual Rows"] <= most for node in nodes if "Sort" in node["Node Type"])
        assert sum(map(_read, nodes)) <= most * READS, plan


@pytest.mark.parametrize("name", OF_A_TENANT)
async def test_so_does_a_workflow_that_handles_several(name: str, filled: Filled) -> None:
    """Without the relay's settings: the tenant's session has its role's."""
    engine = filled.database.tenant_engine.sync_engine
    with within(filled.database, "large"):
        async with tenant_session() as session:
            plans = await _plans_in(session, engine, lambda: OF_A_TENANT[name](session, filled.own))
    assert plans
    for plan in plans:
        # Where nothing was in work when the table was analysed, a mark reads all that is now.
        marks = filled.analysed == "others" and name != "load"
        assert sum(map(_read, _nodes(plan))) <= BATCH * READS + marks * IN_WORK, plan


async def _plans(statement: Statement, filled: Filled) -> list[dict[str, Any]]:
    """Returns the plans of all statements of a relay's function."""
    engine = filled.database.platform_engine.sync_engine
    async with filled.database.platform_session("look at plans in a test") as session:
        return await _plans_in(session, engine, lambda: statement(session, filled.taken))


async def _plans_in(
    session: AsyncSession, engine: Engine, send: Callable[[], Awaitable[object]]
) -> list[dict[str, Any]]:
    """Returns the plans of all statements that `send` sends, as executed; rolls back."""
    sent: list[tuple[str, Any]] = []

    def note(connection: object, cursor: object, sql: str, parameters: object, *_: object) -> None:
        sent.append((sql, parameters))

    event.listen(engine, "before_cursor_execute", note)
    await send()
    event.remove(engine, "before_cursor_execute", note)
    await session.rollback()
    found = []
    for sql, parameters in sent:
        if "outbox_messages" not in sql:
            continue
        connection = await session.connection()
        explained = await connection.exec_driver_sql(
            f"explain (analyze, format json) {sql}", parameters
        )
        found.append(explained.scalar_one()[0]["Plan"])
        await session.rollback()
    return found


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", []):
        yield from _nodes(inner)


def _read(node: dict[str, Any]) -> float:
    """Returns how many rows of the outbox a node has read."""
    if node.get("Relation Name") != "outbox_messages" or "Scan" not in node["Node Type"]:
        return 0
    passed_over = node.get("Rows Removed by Filter", 0)
    return float(node["Actual Loops"] * (node["Actual Rows"] + passed_over))
