"""A process that holds a tenant's lock: `python holder.py REDIS TENANT_DATABASE_URL`.

It says `held` once it has the lock and has checked it, waits for a line, and then writes under the
lock; it says how that ended.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta

from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.postgres.database import Database, tenant_session, use_database
from temporal_tenancy.shared_state._errors import LockLost
from temporal_tenancy.shared_state._locks import tenant_lock
from temporal_tenancy.shared_state._store import SharedState, use_shared_state
from tests.fixtures.redis import PATIENT
from tests.fixtures.tables.models import Effect


async def hold(redis: str, database_url: str) -> None:
    """Holds the lock `books` of acme."""
    database = Database(tenant_url=database_url)
    state = SharedState(redis, timeout=PATIENT)
    with use_database(database), use_shared_state(state), enter(TenantScope("acme")):
        try:
            async with tenant_lock("books", ttl=timedelta(seconds=2)) as lock:
                async with tenant_session() as session:
                    await lock.check(session)
                print("held", flush=True)
                # Blocks the loop, as code that computes does: only the fence is left.
                sys.stdin.readline()
                async with tenant_session() as session:
                    await lock.check(session)
                    session.add(Effect(subject="books", note="late"))
            print("written", flush=True)
        except LockLost as error:
            print(f"refused {error}", flush=True)
    await state.close()
    await database.dispose()


if __name__ == "__main__":
    asyncio.run(hold(*sys.argv[1:]))
