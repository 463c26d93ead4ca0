"""Locks: one holder at a time, and no write by one who has lost it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from redis.asyncio import Redis
from sqlalchemy import func, select, text, update

from dev.devstack.postgres import DatabaseUrls
from dev.devstack.redis import RedisServer
from temporal_tenancy.core.errors import (
    ConfigurationError,
    NotAwaited,
    ScopeMissing,
    TenantMismatch,
)
from temporal_tenancy.outbox.tables import LockFence
from temporal_tenancy.postgres.database import Database, tenant_session, use_database
from temporal_tenancy.shared_state._errors import LockLost, LockTaken, LockUnavailable
from temporal_tenancy.shared_state._keys import tenant_key
from temporal_tenancy.shared_state._locks import tenant_lock
from temporal_tenancy.shared_state._store import SharedState, use_shared_state
from tests.fixtures.postgres import within
from tests.fixtures.redis import sharing
from tests.fixtures.tables.models import Effect

HOLDER = Path(__file__).with_name("holder.py")
SHORT = timedelta(milliseconds=500)
LONG = timedelta(seconds=20)


@contextmanager
def working(database: Database, state: SharedState, tenant: str = "acme") -> Iterator[None]:
    """Runs the block for a tenant with the database and Redis."""
    with use_database(database), sharing(state, tenant):
        yield


async def effects() -> int:
    async with tenant_session() as session:
        return await session.scalar(select(func.count()).select_from(Effect)) or 0


async def forget(state: SharedState, *names: str) -> None:
    """Makes Redis forget a lock, as it does at the end of its life, or when it needs room."""
    assert state.client is not None
    assert await state.client.delete(tenant_key("lock", *names)) == 1


async def test_a_lock_whose_block_has_ended_protects_nothing(
    database: Database, state: SharedState
) -> None:
    with working(database, state):
        async with tenant_lock("books", "2024") as kept:
            pass
        async with tenant_session() as session:
            with pytest.raises(LockLost):
                await kept.check(session)


async def test_one_holds_a_lock_and_the_next_gets_a_larger_token(
    database: Database, state: SharedState
) -> None:
    with working(database, state):
        async with tenant_lock("books", "2024") as first:
            async with tenant_session() as session:
                await first.check(session)
            with pytest.raises(LockTaken, match="books:2024"):
                async with tenant_lock("books", "2024"):
                    pass
            async with tenant_lock("books", "2025"):
                pass
        async with tenant_lock("books", "2024") as second:
            assert second.token > first.token


async def test_two_tenants_hold_locks_of_one_name(database: Database, state: SharedState) -> None:
    with working(database, state):
        async with tenant_lock("books"):
            await asyncio.create_task(_hold(database, state))  # this task acts for acme


async def _hold(database: Database, state: SharedState) -> None:
    with working(database, state), pytest.raises(LockTaken):
        async with tenant_lock("books"):
            pass


async def test_another_tenants_lock_is_another_lock(database: Database, state: SharedState) -> None:
    held = asyncio.Event()
    done = asyncio.Event()

    async def other() -> None:
        with working(database, state, "globex"):
            async with tenant_lock("books") as lock:
                held.set()
                await done.wait()
                async with tenant_session() as session:
                    await lock.check(session)

    task = asyncio.create_task(other())
    await held.wait()
    with working(database, state):
        async with tenant_lock("books") as lock, tenant_session() as session:
            await lock.check(session)
    done.set()
    await task


async def test_one_can_wait_for_a_lock(database: Database, state: SharedState) -> None:
    waiting = asyncio.Event()

    async def wait() -> int:
        with working(database, state):
            waiting.set()
            async with tenant_lock("books", wait=LONG) as lock:
                return lock.token

    with working(database, state):
        async with tenant_lock("books") as lock:
            task = asyncio.create_task(wait())
            await waiting.wait()
        assert await task > lock.token


async def test_a_lock_is_renewed_while_it_is_held(database: Database, state: SharedState) -> None:
    assert state.client is not None
    with working(database, state):
        async with tenant_lock("books", ttl=timedelta(seconds=3)) as lock:
            key = tenant_key("lock", "books")
            await state.client.pexpire(key, 2_500)
            while await state.client.pttl(key) <= 2_500:
                await asyncio.sleep(0.01)
            async with tenant_session() as session:
                await lock.check(session)
        assert await state.client.exists(key) == 0


async def test_a_write_after_another_took_the_lock_is_refused(
    database: Database, state: SharedState
) -> None:
    with working(database, state), pytest.raises(LockLost, match="Nothing more is written"):
        async with tenant_lock("books", ttl=LONG) as first:
            await forget(state, "books")
            async with tenant_lock("books", ttl=LONG):
                pass
            async with tenant_session() as session:
                session.add(Effect(subject="books", note="late"))
                await first.check(session)
    with working(database, state):
        assert await effects() == 0


async def test_nobody_takes_a_lock_while_a_checked_transaction_is_open(
    database: Database, state: SharedState
) -> None:
    order = []

    async def take() -> None:
        async with tenant_lock("books", ttl=LONG) as lock, tenant_session() as session:
            await lock.check(session)
            order.append(("second", await effects()))

    with working(database, state), pytest.raises(LockLost):
        async with tenant_lock("books", ttl=LONG) as first:
            async with tenant_session() as session:
                await first.check(session)
                await forget(state, "books")
                task = asyncio.create_task(take())
                await _until_somebody_waits(database)
                session.add(Effect(subject="books", note="in time"))
                order.append(("first", 0))
            await task
    assert order == [("first", 0), ("second", 1)]


async def _until_somebody_waits(database: Database) -> None:
    waits = text("select count(*) from pg_locks where not granted")
    async with database.tenant_session() as session:
        while not await session.scalar(waits):
            await asyncio.sleep(0.01)


async def test_an_evicted_lock_ends_the_block(database: Database, state: SharedState) -> None:
    with working(database, state), pytest.raises(LockLost):
        async with tenant_lock("books", ttl=SHORT):
            await forget(state, "books")
            await asyncio.sleep(60)


async def test_a_block_that_ends_after_its_lock_was_lost_says_so(
    database: Database, state: SharedState
) -> None:
    with working(database, state), pytest.raises(LockLost):
        async with tenant_lock("books", ttl=LONG):
            await forget(state, "books")


async def test_tokens_grow_though_redis_forgets_everything(
    database: Database, own_redis: RedisServer
) -> None:
    tokens = []
    for _ in range(3):
        state = SharedState(own_redis.url)
        with working(database, state):
            async with tenant_lock("books") as lock:
                tokens.append(lock.token)
        await state.close()
        own_redis.kill()
        own_redis.start()
    assert tokens == sorted(set(tokens))


async def test_tokens_grow_though_the_clock_goes_back(
    database: Database, state: SharedState
) -> None:
    with working(database, state):
        async with tenant_lock("books"):
            pass
        async with tenant_session() as session:
            await session.execute(update(LockFence).values(token=2**60))
        async with tenant_lock("books") as lock:
            assert lock.token == 2**60 + 1


async def test_tokens_grow_though_the_fence_was_deleted(
    database: Database, state: SharedState
) -> None:
    with working(database, state):
        async with tenant_lock("books") as first:
            pass
        async with tenant_session() as session:
            await session.execute(text("delete from tenancy.lock_fences"))
        async with tenant_lock("books") as second:
            assert second.token > first.token


async def test_old_fences_are_deleted_with_the_next(database: Database, state: SharedState) -> None:
    with working(database, state):
        for number in range(3):
            async with tenant_lock("books", str(number)):
                pass
        async with tenant_session() as session:
            await session.execute(
                text("update tenancy.lock_fences set taken_at = now() - interval '31 days'")
            )
        for _ in range(2):
            async with tenant_lock("other"):
                pass
        async with tenant_session() as session:
            assert list(await session.scalars(select(LockFence.name))) == ["other"]


async def test_nothing_begins_without_redis(database: Database, own_redis: RedisServer) -> None:
    state = SharedState(own_redis.url)
    own_redis.kill()
    with working(database, state):
        for _ in range(2):  # the second finds the circuit open
            with pytest.raises(LockUnavailable, match="Nothing goes on without it"):
                async with tenant_lock("books"):
                    raise AssertionError("it went on")
    await state.close()


async def test_nothing_begins_where_no_redis_is_set(database: Database) -> None:
    with (
        working(database, SharedState(None)),
        pytest.raises(LockUnavailable, match="Redis is not set"),
    ):
        async with tenant_lock("books"):
            raise AssertionError("it went on")


async def test_a_block_ends_with_its_lock_where_redis_goes_away(
    database: Database, own_redis: RedisServer
) -> None:
    state = SharedState(own_redis.url)
    with working(database, state), pytest.raises(LockLost):
        async with tenant_lock("books", ttl=SHORT):
            own_redis.kill()
            await asyncio.sleep(60)
    await state.close()


async def test_a_block_goes_on_while_its_lock_lives_though_redis_is_away(
    database: Database, own_redis: RedisServer
) -> None:
    state = SharedState(own_redis.url)
    with working(database, state):
        async with tenant_lock("books", ttl=LONG) as lock:
            own_redis.kill()
            async with tenant_session() as session:
                await lock.check(session)
                session.add(Effect(subject="books", note="in time"))
        assert await effects() == 1
    await state.close()


async def test_an_error_of_the_block_is_its_own_and_frees_the_lock(
    database: Database, state: SharedState
) -> None:
    with working(database, state):
        for error in (LookupError, TimeoutError):
            with pytest.raises(error):
                async with tenant_lock("books"):
                    raise error
        async with tenant_lock("books"):
            pass


async def test_a_lock_is_taken_in_a_tenants_scope(database: Database, state: SharedState) -> None:
    with use_database(database), use_shared_state(state), pytest.raises(ScopeMissing):
        async with tenant_lock("books"):
            pass


async def test_a_lock_is_checked_in_its_tenants_session(
    database: Database, state: SharedState
) -> None:
    with working(database, state):
        async with tenant_lock("books") as lock:
            pass
    with working(database, state, "globex"):
        async with tenant_session() as session:
            with pytest.raises(TenantMismatch, match="acme's"):
                await lock.check(session)


async def test_a_check_that_is_not_awaited_is_an_error(
    database: Database, state: SharedState
) -> None:
    with working(database, state), pytest.raises(NotAwaited, match="check"):
        async with tenant_lock("books") as lock, tenant_session() as session:
            session.add(Effect(subject="books", note="unchecked"))
            lock.check(session)  # type: ignore[unused-coroutine]


async def test_a_life_too_short_to_renew_is_refused(database: Database, state: SharedState) -> None:
    with working(database, state), pytest.raises(ConfigurationError, match="ttl"):
        async with tenant_lock("books", ttl=timedelta(milliseconds=1)):
            pass


@pytest.fixture
async def holder(
    database: Database, database_urls: DatabaseUrls, redis_url: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Another process, which holds acme's lock `books`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(HOLDER),
        redis_url,
        database_urls.tenant,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"held\n"
    yield process
    if process.returncode is None:
        process.kill()
        await process.wait()


async def test_a_holder_that_was_stopped_for_longer_than_its_lock_writes_nothing(
    database: Database, state: SharedState, holder: asyncio.subprocess.Process
) -> None:
    holder.send_signal(signal.SIGSTOP)
    with working(database, state):
        async with tenant_lock("books", wait=LONG) as lock, tenant_session() as session:
            await lock.check(session)
            session.add(Effect(subject="books", note="the second's"))
        holder.send_signal(signal.SIGCONT)
        said, _ = await holder.communicate(b"\n")
        assert said.startswith(b"refused acme has lost the lock books")
        assert await effects() == 1


async def test_a_holder_that_was_killed_leaves_its_lock_to_the_next(
    database: Database, state: SharedState, holder: asyncio.subprocess.Process
) -> None:
    holder.kill()
    await holder.wait()
    with working(database, state):
        async with tenant_lock("books", wait=LONG) as lock, tenant_session() as session:
            await lock.check(session)


async def test_a_holders_write_is_there_where_nobody_took_its_lock(
    database: Database, state: SharedState, holder: asyncio.subprocess.Process
) -> None:
    said, _ = await holder.communicate(b"\n")
    with working(database, state):
        assert (said, await effects()) == (b"written\n", 1)


async def test_a_fence_is_its_tenants(database: Database, state: SharedState) -> None:
    with working(database, state):
        async with tenant_lock("books"):
            pass
    with within(database, "globex"):
        async with tenant_session() as session:
            assert await session.scalar(select(func.count()).select_from(LockFence)) == 0


async def test_keys_of_locks_have_an_end(
    database: Database, state: SharedState, redis_url: str
) -> None:
    async with Redis.from_url(redis_url) as client:
        with working(database, state):
            async with tenant_lock("books"):
                [key] = [key async for key in client.scan_iter()]
                assert key.startswith(b"tenancy:{acme}:lock:books")
                assert 0 < await client.pttl(key) <= 30_000
