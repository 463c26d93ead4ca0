"""The peer procrastinate, another job queue on PostgreSQL: its app, and its worker's process.

`python -m benchmarks.outbox.procrastinate_peer worker` runs a worker with concurrency 10.
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
from benchmarks.outbox.outbox_stack import FINISHED, LOOK, READY, Outbox, driver_url, value_of

CONCURRENCY: Final = 10
# One for each concurrent job, which it is also fetched and finished with; two for notifications and
# heartbeats.
CONNECTIONS: Final = CONCURRENCY + 2
ENTRIES: Final = "bench_plain_entries"
TASK: Final = "small"

_ADD: Final = ADD_ENTRY.format(table=ENTRIES, tenant="%s", subject="%s").encode()
# Finished jobs: a row each; the table's triggers add their events.
_HISTORY: Final = f"""
    insert into procrastinate_jobs (queue_name, task_name, args, status)
    select 'default', '{TASK}', '{{"tenant": "t00", "number": 1}}', 'succeeded'
    from generate_series(1, {FINISHED})
"""
_OPEN: Final = "select count(*) from procrastinate_jobs where status in ('todo', 'doing')"
_FORGET: Final = "update procrastinate_jobs set status = 'succeeded' where status = 'doing'"

Entries = AsyncConnectionPool  # for the jobs' effects


class Peer:
    """procrastinate in the same database as an outbox."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self.app = make_app(outbox.urls.owner)
        self._task = self.app.configure_task(TASK)

    async def prepare(self) -> None:
        """Creates its tables, one for the effects, and a history; analyses them."""
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
        """Defers a tenant's jobs in one batch, one per input."""
        jobs: list[dict[str, JSONValue]] = [{"tenant": tenant, **input} for input in inputs]
        await self._task.batch_defer_async(*jobs)

    async def forget_open_jobs(self) -> None:
        """Marks fetched jobs as finished."""
        await self._outbox.everything.execute(_FORGET)

    async def open_jobs(self) -> int:
        """Returns the number of unfinished jobs."""
        return int(await value_of(self._outbox.everything, _OPEN))

    async def until_worked_off(self) -> None:
        """Waits until all jobs are finished."""
        while await self.open_jobs():  # noqa: ASYNC110  # another process sends no event
            await asyncio.sleep(LOOK)


@asynccontextmanager
async def peer(outbox: Outbox) -> AsyncIterator[Peer]:
    """Opens procrastinate in the database of `outbox`, with its tables created."""
    peer = Peer(outbox)
    async with peer.app.open_async():
        await peer.prepare()
        yield peer


def make_app(url: str) -> App:
    """Returns an app on the database at `url`, with a pool as large as its concurrency needs."""
    return App(
        connector=PsycopgConnector(
            conninfo=driver_url(url), min_size=CONNECTIONS, max_size=CONNECTIONS
        )
    )


async def _work() -> None:
    url = os.environ["DATABASE_URL"]
    app = make_app(url)
    entries: Entries = AsyncConnectionPool(
        driver_url(url), min_size=CONCURRENCY, open=False, kwargs={"autocommit": True}
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
