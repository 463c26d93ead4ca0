"""What does migrating a store cost, among many and among few, and where nothing is missing?

Two fleets are prepared by the library, one with ten times the stores of the other: schemas beside
the control plane, and databases that are copies of a prepared one. The application has one table
with row-level security; each round brings a migration that adds a column and an index, as a release
does, to all stores of both fleets.

`growth` is the time for each store of the large fleet divided by that of the small one. `no_op` is
the time for each store of the large fleet when nothing is missing, divided by 10 ms, its bound; the
whole call counts, with reading the migrations. Both arms use the usual budget of connections.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Final

from psycopg import sql

from benchmarks.shared.measure import Answer, Arm, Comparison, Goal, is_full, tell, turns
from benchmarks.shared.servers import Servers
from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy import Isolation
from temporal_tenancy.core import MigrationEnvironment
from temporal_tenancy.postgres import connect
from temporal_tenancy.postgres.role_checks import STORE_MARK
from temporal_tenancy.postgres.store_roles import make_identity
from temporal_tenancy.stores import Preparation, Waves, upgrade_stores

NAME: Final = "store_migrations"
TEMPORAL_CONFIG: Final[dict[str, str]] = {}
GROWTH: Final = Goal("<=", 1.3)
NO_OP: Final = Goal("<=", 1.0)
NO_OP_BOUND: Final = 10.0  # ms for each store
ROUNDS: Final = 3
FEWER: Final = 10  # times, in the small fleet
SHOP: Final = MigrationEnvironment("orders", "bench_shop:migrations", "shop_version")

_ENV: Final = """
from sqlalchemy import MetaData
from temporal_tenancy.postgres import run_migrations
run_migrations(MetaData())
"""
_FIRST: Final = """
from alembic import op
from temporal_tenancy import protect
revision, down_revision = "0001", None
def upgrade():
    op.execute("create table orders (tenant_id text, id bigint, primary key (tenant_id, id))")
    protect("orders")
"""
_LATER: Final = """
from alembic import op
revision, down_revision = "{number:04}", "{before:04}"
def upgrade():
    op.execute("alter table orders add added_{number} int not null default 0")
    op.execute("create index by_{number} on orders (tenant_id, added_{number})")
"""


async def answers(servers: Servers) -> Sequence[Answer]:
    """Measures; about a minute for 100 schemas and 20 databases, and with FULL=1 ten times that."""
    return await asyncio.to_thread(_answers, servers)


def _answers(servers: Servers) -> Sequence[Answer]:
    folder = servers.directory / "bench_shop" / "migrations"
    _write(folder)
    sys.path.insert(0, str(servers.directory))
    schemas, databases = (1_000, 200) if is_full() else (100, 20)
    return [
        *_measured(servers, folder, Isolation.SCHEMA, schemas, _schemas),
        *_measured(servers, folder, Isolation.DATABASE, databases, _databases),
    ]


def _measured(
    servers: Servers,
    folder: Path,
    isolation: Isolation,
    stores: int,
    prepare: Callable[[Servers, DatabaseUrls, str, int], None],
) -> Sequence[Answer]:
    fleets = {Arm.OURS: stores, Arm.PEER: stores // FEWER}
    urls = {arm: servers.new_database(f"{isolation}_{count}") for arm, count in fleets.items()}
    _only_first(folder)
    for arm, count in fleets.items():
        prepare(servers, urls[arm], f"t_{isolation}_{count}", count)
        _upgrade(urls[arm], count)  # the control plane sees them for the first time
        tell(f"{NAME}: {count} stores of the isolation {isolation} are prepared")
    growth, no_op = Comparison(), Comparison()
    for number, order in enumerate(turns(ROUNDS), start=2):
        (folder / "versions" / f"{number:04}_x.py").write_text(
            _LATER.format(number=number, before=number - 1)
        )
        growth.add({arm: _upgrade(urls[arm], fleets[arm]) for arm in order})
        no_op.add({Arm.OURS: _upgrade(urls[Arm.OURS], stores), Arm.PEER: NO_OP_BOUND})
    names = f"{NAME}.{isolation}"
    return [
        Answer(
            f"{names}.growth",
            f"each of {stores // FEWER} stores, where ours is each of {stores}",
            GROWTH,
            "ms for a store, one real migration",
            growth,
            {"whole_s": median(growth.ours) * stores / 1000},
        ),
        Answer(
            f"{names}.no_op",
            f"{NO_OP_BOUND:.0f} ms for each of {stores} stores",
            NO_OP,
            "ms for a store that is up to date",
            no_op,
        ),
    ]


def _upgrade(urls: DatabaseUrls, stores: int) -> float:
    """Migrates a fleet, and returns the milliseconds for each store."""
    begun = time.perf_counter()
    done = upgrade_stores(urls.owner, application=[SHOP], waves=Waves())
    took = time.perf_counter() - begun
    if done.left or len(done.migrated) + len(done.up_to_date) != stores:
        raise RuntimeError(f"not every store was migrated: {done}")
    return took * 1000 / stores


def _schemas(servers: Servers, urls: DatabaseUrls, prefix: str, count: int) -> None:
    preparation = Preparation(urls.owner, application=[SHOP])
    for number in range(count):
        preparation.prepare(Isolation.SCHEMA, name=f"{prefix}_{number}")


def _databases(servers: Servers, urls: DatabaseUrls, prefix: str, count: int) -> None:
    """Copies a migrated database: preparing each would measure nothing of a migration."""
    template = f"{prefix}_template"
    made = servers.new_store(template, [SHOP])
    with connect(made.owner) as owner:
        make_identity(owner, "public", template, None, "tenancy_tenant", "tenancy_platform")
    with connect(urls.superuser) as superuser:
        for number in range(count):
            name = sql.Identifier(f"{prefix}_{number}")
            superuser.execute(
                sql.SQL("create database {} template {} owner tenancy_owner").format(
                    name, sql.Identifier(template)
                )
            )
            superuser.execute(
                sql.SQL("comment on database {} is {}").format(name, sql.Literal(STORE_MARK))
            )
            superuser.execute(
                "insert into tenancy.stores (name, isolation, secret, state, capacity) "
                "values (%(name)s, 'database', %(name)s, 'ready', 1)",
                {"name": f"{prefix}_{number}"},
            )


def _write(folder: Path) -> None:
    (folder / "versions").mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("")
    (folder / "env.py").write_text(_ENV)
    (folder / "versions" / "0001_x.py").write_text(_FIRST)


def _only_first(folder: Path) -> None:
    for file in (folder / "versions").glob("*.py"):
        if not file.name.startswith("0001"):
            file.unlink()
