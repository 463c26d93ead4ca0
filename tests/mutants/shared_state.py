"""The mutants of what processes share: keys, fences, and locks without Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from temporal_tenancy.core.scope import current_tenant
from temporal_tenancy.shared_state import _cache, _fences, _keys, _locks
from temporal_tenancy.shared_state._cache_scripts import KEEP
from temporal_tenancy.shared_state._errors import LockUnavailable
from temporal_tenancy.shared_state._locks import TenantLock
from tests.mutants.mutant import Mutant, replace

LOCKS: Final = "tests/library/shared_state/test_locks.py"
KEYS: Final = "tests/library/shared_state/test_keys.py"
CACHE: Final = "tests/library/shared_state/test_cache.py"


def _believe_every_token() -> None:
    async def check(self: TenantLock, session: Any) -> None:
        return None

    replace(TenantLock, "_check", check)


def _compare_without_locking() -> None:
    newest = _fences._NEWEST
    replace(_fences, "_NEWEST", type(newest)(newest.text.replace("for share", "")))


def _leave_the_tenant_out() -> None:
    def key(owner: str, purpose: str, parts: tuple[str, ...]) -> str:
        return f"tenancy:{_keys.encoded((purpose, *parts))}"

    replace(_keys, "_key", key)


def _encode_nothing() -> None:
    replace(_keys, "quote", lambda part, **options: part)


def _go_on_without_redis() -> None:
    taken = _locks.tenant_lock

    @asynccontextmanager
    async def lock(name: str, *parts: str, **options: Any) -> AsyncIterator[TenantLock]:
        try:
            async with taken(name, *parts, **options) as held:
                yield held
        except LockUnavailable:
            yield TenantLock(name, current_tenant(), 0)

    replace(_locks, "tenant_lock", lock)


def _keep_what_was_cleared() -> None:
    replace(_cache, "KEEP", KEEP.replace("return 0", ""))


SHARED_STATE_FAULTS: Final = [
    Mutant(
        "fence-ignored",
        "a transaction under a lock does not compare the lock's token",
        (
            f"{LOCKS}::test_a_write_after_another_took_the_lock_is_refused",
            f"{LOCKS}::test_a_holder_that_was_stopped_for_longer_than_its_lock_writes_nothing",
        ),
        seed=_believe_every_token,
    ),
    Mutant(
        "fence-not-kept",
        "another one can take the lock between the check and the commit",
        (f"{LOCKS}::test_nobody_takes_a_lock_while_a_checked_transaction_is_open",),
        seed=_compare_without_locking,
    ),
    Mutant(
        "key-without-tenant",
        "what processes share has keys without the tenant",
        (
            f"{KEYS}::test_what_differs_in_tenant_name_or_parts_has_another_key",
            f"{CACHE}::test_each_tenant_has_its_own_values",
        ),
        seed=_leave_the_tenant_out,
    ),
    Mutant(
        "key-not-encoded",
        "a part of a key can hold its separator",
        (f"{KEYS}::test_what_differs_in_tenant_name_or_parts_has_another_key",),
        seed=_encode_nothing,
    ),
    Mutant(
        "lock-without-redis",
        "a job goes on without its lock while Redis is away",
        (f"{LOCKS}::test_nothing_begins_without_redis",),
        seed=_go_on_without_redis,
    ),
    Mutant(
        "cache-keeps-cleared",
        "a value that was computed before its cache was emptied is kept",
        (f"{CACHE}::test_what_is_cleared_while_it_is_computed_is_not_kept",),
        seed=_keep_what_was_cleared,
    ),
]
