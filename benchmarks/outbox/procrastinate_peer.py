"""procrastinate, the Postgres queue that ours is compared with: its app, and its worker's process.

`python -m benchmarks.outbox.procrastinate_peer worker` works at concurrency 10.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from procrastinate import App, PsycopgConnector
from procrastinate.types import JSONValue
from psycopg_pool import AsyncConnectionPool

from benchmarks.outbox.outbox_effects import ADD_ENTRY
from benchmarks.outbox.outbox_stack import FINISHED, LOOK, READY, Outbox, plain, value_of

CONCURRENCY: Final = 10
# Whoever runs a job also fetches and finishes it; two more listen and beat.
CONNECTIONS: Final = CONCURRENCY + 2
ENTRIES: Final = "bench_plain_entries"
TASK: Final = "small"

_ADD: Final = ADD_ENTRY.format(table=ENTRIES, tenant="%s", subject="%s").encode()
# In the way of a finished job: its row, and its events by the table's own triggers.
_HISTORY: Final = f"""
    insert into procrastinate_jobs (queue_name, task_name, args, status)
    select 'default', '{TASK}', '{{"tenant": "t00", "number": 1}}', 'succeeded'
    from generate_series(1, {FINISHED})
"""
_OPEN: Final = "select count(*) from procrastinate_jobs where status in ('todo', 'doing')"
_FORGET: Final = "update procrastinate_jobs set status = 'succeeded' where status = 'doing'"

Entries = AsyncConnectionPool  # where the effects go


class Peer:
    """procrastinate in the database of an outbox."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self.app = make_app(outbox.urls.owner)
        self._task = self.app.configure_task(TASK)

    async def prepare(self) -> None:
        """Makes its tables, one for the effects, and a history; all are analysed."""
        await self.app.schema_manager.apply_schema_async()
        everything = self._outbox.everything
        await everything.execute(
            f"create table {ENTRIES} (like audit_entries including all)".encode()
        )
        await everything.execute(f"grant insert, select on {ENTRIES} to tenancy_owner".encode())
        await everything.execute(_HISTORY.encode())
        await self.analyse()

    async def analyse(self) -> None:
        """Vacuums and analyses its tables."""
        tables = f"procrastinate_jobs, procrastinate_events, {ENTRIES}"
        await self._outbox.everything.execute(f"vacuum (analyze) {tables}".encode())

    async def ask(self, tenant: str, inputs: Sequence[Mapping[str, int]]) -> None:
        """Defers jobs in one batch."""
        jobs: list[dict[str, JSONValue]] = [{"tenant": tenant, **each} for each in inputs]
        await self._task.batch_defer_async(*jobs)

    async def forget_open_jobs(self) -> None:
        """Marks as finished what was fetched and is not."""
        await self._outbox.everything.execute(_FORGET)

    async def open_jobs(self) -> int:
        """How many jobs are not finished."""
        return int(await value_of(self._outbox.everything, _OPEN))

    async def until_worked_off(self) -> None:
        """Waits until all jobs are finished."""
        while await self.open_jobs():  # noqa: ASYNC110  # another process has no event
            await asyncio.sleep(LOOK)


@asynccontextmanager
async def peer(outbox: Outbox) -> AsyncIterator[Peer]:
    """Procrastinate beside `outbox`, with its tables made."""
    made = Peer(outbox)
    async with made.app.open_async():
        await made.prepare()
        yield made


def make_app(url: str) -> App:
    """An app on the database at `url`, with a pool that its concurrency needs."""
    return App(
        connector=PsycopgConnector(conninfo=plain(url), min_size=CONNECTIONS, max_size=CONNECTIONS)
    )


async def _work() -> None:
    url = os.environ["DATABASE_URL"]
    app = make_app(url)
    entries: Entries = AsyncConnectionPool(
        plain(url), min_size=CONCURRENCY, open=False, kwargs={"autocommit": True}
    )

    @app.task(name=TASK)
    async def small(tenant: str, number: int) -> None:
        async with entries.connection() as connection:
            await connection.execute(_ADD, [tenant, str(number)])

    async with entries, app.open_async():
        print(READY, flush=True)
        await app.run_worker_async(concurrency=CONCURRENCY)


if __name__ == "__main__":
    assert sys.argv[1:] == ["worker"]
    asyncio.run(_work())
