"""How many rows per second does an import write, compared with a plain COPY of the same rows?

Ours: the job contacts.import from start to result. It includes Temporal, a worker, reading the file
from the object storage (a folder), decoding, checking and counting each row, and writing it into
`contacts` under row-level security, in batches of 5,000 and of 100 rows, each of which records the
progress. The file is stored beforehand, as for the peers.

Peer: the minimum that any import could do. One `COPY … FROM STDIN (FORMAT csv)` sends the file's
bytes unparsed into a table with the same columns, defaults and indexes and without row-level
security. It checks nothing, does not upsert, and cannot resume. Second peer: the same upsert into
`contacts` with psycopg's `executemany` (which pipelines), 5,000 rows per transaction, from rows
that are already read and split.

All tables are emptied before each run; batches of 100 get a tenth of the rows. A round runs each
arm once; the value is the median over rounds of ours divided by the peer's, in rows per second.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final

from temporalio.client import Client
from temporalio.worker import Worker

from activities import ACTIVITIES
from benchmarks.imports.contact_files import (
    COLUMNS,
    TENANT,
    import_contacts,
    read_pieces,
    storage_in,
    store,
    write_contacts,
)
from benchmarks.shared.measure import Answer, Arm, Comparison, Goal, is_full, rounds, tell, turns
from benchmarks.shared.servers import Servers
from dev.devstack.postgres import DatabaseUrls
from processes import connect
from saas.queues import Queue
from temporal_tenancy import Database, TenancyPlugin
from temporal_tenancy.control_plane import ControlPlaneDirectory, Tenants
from temporal_tenancy.postgres import TENANT_ROLE
from temporal_tenancy.postgres import connect as connect_to
from workflows import WORKFLOWS

NAME: Final = "import_throughput"
GOAL: Final = Goal(">=", 0.5)
NO_SLOWER: Final = Goal(">=", 1.0)
TEMPORAL_CONFIG: Final[dict[str, str]] = {}
BATCH: Final = 5_000  # rows
SMALL_BATCH: Final = 100  # rows
PLAIN: Final = "bench_plain_contacts"
_UPSERT: Final = """
    insert into contacts as existing (tenant_id, email, name, phone, company, country)
    values (%s, %s, %s, %s, %s, %s)
    on conflict (tenant_id, email) do update set
        name = coalesce(excluded.name, existing.name),
        phone = coalesce(excluded.phone, existing.phone),
        company = coalesce(excluded.company, existing.company),
        country = coalesce(excluded.country, existing.country),
        updated_at = now()
"""


async def answers(servers: Servers) -> Sequence[Answer]:
    """Measures; about half a minute, a few minutes with FULL=1 (a million rows)."""
    rows = 1_000_000 if is_full() else 100_000
    urls = servers.new_database("import_throughput")
    _make_plain_table(urls)
    database = Database(tenant_url=urls.tenant, platform_url=urls.platform)
    await Tenants(database).add(TENANT, "Acme", plan="enterprise")
    file = write_contacts(servers.directory / "contacts.csv", rows)
    few = rows // 10  # for small batches, which take ten times as long per row
    short = write_contacts(servers.directory / "few.csv", few)
    plugin = TenancyPlugin(
        directory=ControlPlaneDirectory(database),
        database=database,
        passthrough=connect.PASSTHROUGH,
    )
    client = await Client.connect(servers.temporal_address, plugins=[plugin])
    copied, executemany, small = Comparison(), Comparison(), Comparison()
    try:
        with storage_in(servers.directory / "objects"):
            worker = Worker(
                client, task_queue=Queue.DEFAULT, workflows=WORKFLOWS, activities=ACTIVITIES
            )
            async with worker:
                for number, order in enumerate(turns(rounds(5, full=3))):
                    measured: dict[Arm, float] = {}
                    for arm in order:
                        _empty(urls)
                        if arm is Arm.OURS:
                            measured[arm] = rows / await _ours(database, client, file, rows, BATCH)
                        else:
                            measured[arm] = rows / _copied(urls, file)
                    copied.add(measured)
                    _empty(urls)
                    peer = rows / _executed(urls, file)
                    executemany.add({Arm.OURS: measured[Arm.OURS], Arm.PEER: peer})
                    _empty(urls)
                    slow = few / await _ours(database, client, short, few, SMALL_BATCH)
                    small.add({Arm.OURS: slow, Arm.PEER: measured[Arm.PEER]})
                    tell(
                        f"{NAME}: round {number + 1}: ours {measured[Arm.OURS]:,.0f}, "
                        f"COPY {measured[Arm.PEER]:,.0f}, executemany {peer:,.0f}, "
                        f"batches of {SMALL_BATCH}: {slow:,.0f} rows/s"
                    )
    finally:
        await database.dispose()
    besides = {
        "rows": rows,
        "batches_of_100": median(small.ours),
        "batches_of_100_ratio": small.ratio,
    }
    return [
        Answer(f"{NAME}.copy", "plain COPY without checks", GOAL, "rows/s", copied, besides),
        Answer(f"{NAME}.executemany", "upserts by executemany", NO_SLOWER, "rows/s", executemany),
    ]


def _make_plain_table(urls: DatabaseUrls) -> None:
    with connect_to(urls.owner) as owner:
        owner.execute(f"create table {PLAIN} (like contacts including all)")
        owner.execute(f"alter table {PLAIN} alter tenant_id set default '{TENANT}'")
        owner.execute(f"grant select, insert on {PLAIN} to {TENANT_ROLE}")


def _empty(urls: DatabaseUrls) -> None:
    with connect_to(urls.owner) as owner:
        owner.execute(f"truncate contacts, {PLAIN}")


async def _ours(
    database: Database, client: Client, file: Path, rows: int, batch_size: int
) -> float:
    import_id = await store(database, file)
    began = time.perf_counter()
    progress = await import_contacts(client, import_id, batch_size=batch_size)
    taken = time.perf_counter() - began
    assert (progress.imported, progress.rows) == (rows, rows)
    return taken


def _copied(urls: DatabaseUrls, file: Path) -> float:
    began = time.perf_counter()
    with connect_to(urls.tenant) as connection, connection.cursor() as cursor:
        statement = f"copy {PLAIN} ({', '.join(COLUMNS)}) from stdin (format csv, header)"
        with cursor.copy(statement.encode()) as copy:
            for piece in read_pieces(file):
                copy.write(piece)
    return time.perf_counter() - began


def _executed(urls: DatabaseUrls, file: Path) -> float:
    with file.open(newline="") as opened:
        records = [(TENANT, *record) for record in csv.reader(opened)][1:]
    began = time.perf_counter()
    with connect_to(urls.tenant) as connection, connection.cursor() as cursor:
        for start in range(0, len(records), BATCH):
            with connection.transaction():
                cursor.execute("select set_config('app.tenant_id', %s, true)", [TENANT])
                cursor.executemany(_UPSERT, records[start : start + BATCH])
    return time.perf_counter() - began
