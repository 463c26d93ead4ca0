"""A tenant's cache: values with an end, computed by one at a time, and a miss without Redis."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final, Generic, TypeVar, cast
from uuid import uuid4

from pydantic import PydanticUserError, TypeAdapter, ValidationError
from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.scope import current_tenant
from temporal_tenancy.shared_state._cache_scripts import BEGIN, CLEAR, KEEP
from temporal_tenancy.shared_state._errors import SharedStateUnavailable
from temporal_tenancy.shared_state._keys import tenant_key
from temporal_tenancy.shared_state._store import SharedState, current_shared_state

VALUE_MAX_BYTES: Final = 256 * 1024
ENTRIES_MAX: Final = 1_000  # of one tenant's cache of one name
TTL_MAX: Final = timedelta(days=30)
COMPUTING: Final = timedelta(minutes=5)  # a longer computation is not kept
POLL: Final = 0.05  # seconds between two looks while another one computes
MISS: Final = object()

Value = TypeVar("Value")

log: Final = logging.getLogger(__name__)


def tenant_cache(
    name: str,
    type: type[Value],
    *,
    ttl: timedelta,
    entries: int = ENTRIES_MAX,
    patience: timedelta = timedelta(seconds=5),
) -> TenantCache[Value]:
    """Returns a cache in which each tenant has its own values; declare it once, in a module.

    Values are JSON, as pydantic writes and reads it. Where Redis is away, nothing is found and
    nothing kept.

    Args:
        name: of the cache. Change it where a value of the same form gets another meaning.
        type: of the values: a pydantic model, a dataclass, `dict[str, int]`, ...
        ttl: how long a value is kept: at least a millisecond, at most 30 days.
        entries: the most values that one tenant has in it; those that end first go.
        patience: how long to wait for another process that computes the same value.

    Raises:
        ConfigurationError: one of them is out of its bounds, or pydantic cannot write the type.
    """
    if not timedelta(milliseconds=1) <= ttl <= TTL_MAX:
        raise ConfigurationError(
            f"the cache {name} keeps values for {ttl}. Give it a ttl of a millisecond to 30 days."
        )
    if entries < 1:
        raise ConfigurationError(f"the cache {name} has no room. Give it entries=1 or more.")
    try:
        adapter: TypeAdapter[Value] = TypeAdapter(type)
    except PydanticUserError:
        raise ConfigurationError(
            f"the cache {name} has values that pydantic cannot write as JSON. Give it a model."
        ) from None
    return TenantCache(name, adapter, ttl, entries, patience)


@dataclass(frozen=True)
class _Keys:
    """The keys of one entry of the current tenant's cache."""

    entry: str
    generation: str
    index: str
    flight: str


class TenantCache(Generic[Value]):
    """The caches of one name, of which each tenant has one. Made by `tenant_cache()`."""

    def __init__(
        self,
        name: str,
        adapter: TypeAdapter[Value],
        ttl: timedelta,
        entries: int,
        patience: timedelta,
    ) -> None:
        self.name = name
        self._adapter = adapter
        self._ttl = int(ttl / timedelta(milliseconds=1))
        self._entries = entries
        self._patience = patience.total_seconds()

    async def get(self, *parts: str) -> Value | None:
        """Returns the current tenant's value for `parts`; None if there is none.

        Raises:
            ScopeMissing: no tenant's scope is open, or this is workflow code.
        """
        entry, generation = self._entry(parts), self._generation()
        found = await self._read(current_shared_state(), entry, generation)
        value: Any = self._decoded(found)
        return None if value is MISS else value

    async def set(self, value: Value, *parts: str) -> None:
        """Keeps the current tenant's value for `parts`, unless it is larger than 256 KiB.

        Raises:
            ScopeMissing: no tenant's scope is open, or this is workflow code.
        """
        keys = self._keys(parts)
        await self._keep(current_shared_state(), keys, self._encoded(value), uuid4().hex, "")

    async def delete(self, *parts: str) -> None:
        """Removes the current tenant's value for `parts`, also one that is being computed.

        Raises:
            ScopeMissing: no tenant's scope is open, or this is workflow code.
            SharedStateUnavailable: Redis is away, so that the value may be found again.
        """
        keys, state = self._keys(parts), current_shared_state()
        state.flights.pop(keys.entry, None)
        if state.client is not None:
            await state.call(lambda client: client.unlink(keys.entry, keys.flight))

    async def clear(self) -> int:
        """Empties the current tenant's cache of this name; returns how many entries it had.

        Raises:
            ScopeMissing: no tenant's scope is open, or this is workflow code.
            SharedStateUnavailable: Redis is away, so that the values may be found again.
        """
        keys, state = self._keys(()), current_shared_state()
        for entry in list(state.flights):
            if entry == keys.entry or entry.startswith(f"{keys.entry}:"):
                del state.flights[entry]
        if state.client is None:
            return 0
        names = [keys.generation, keys.index]
        return int(await state.call(partial(_run, CLEAR, names, [])))

    async def get_or_compute(self, compute: Callable[[], Awaitable[Value]], *parts: str) -> Value:
        """Returns the current tenant's value for `parts`; computes and keeps it if there is none.

        Only one caller computes; the others wait for it, those of other processes for `patience`.
        An error is that of every caller in the process, and is not kept. Without Redis each process
        computes.

        Raises:
            ScopeMissing: no tenant's scope is open, or this is workflow code.
        """
        keys, state = self._keys(parts), current_shared_state()
        while True:
            value = self._decoded(await self._read(state, keys.entry, keys.generation))
            if value is not MISS:
                return cast("Value", value)
            flight = state.flights.get(keys.entry)
            if flight is None:
                return await self._fly(state, keys, compute)
            with suppress(asyncio.CancelledError):
                return self._adapter.validate_json(await asyncio.shield(flight))
            if (me := asyncio.current_task()) is not None and me.cancelling():
                raise asyncio.CancelledError
            # Who computed was cancelled: the next one computes.

    async def _fly(
        self, state: SharedState, keys: _Keys, compute: Callable[[], Awaitable[Value]]
    ) -> Value:
        """Computes the value, for everybody in this process who asks meanwhile."""
        flight: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        state.flights[keys.entry] = flight
        try:
            value, encoded = await self._computed(state, keys, compute)
            flight.set_result(encoded)
            return value
        except asyncio.CancelledError:
            flight.cancel()
            raise
        except BaseException as error:
            flight.set_exception(error)
            flight.exception()  # it is raised here, whether or not somebody waits
            raise
        finally:
            if state.flights.get(keys.entry) is flight:
                del state.flights[keys.entry]

    async def _computed(
        self, state: SharedState, keys: _Keys, compute: Callable[[], Awaitable[Value]]
    ) -> tuple[Value, bytes]:
        me = uuid4().hex
        begun = await self._take_turn(state, keys, me)
        if isinstance(begun, bytes):
            return self._adapter.validate_json(begun), begun
        try:
            value = await compute()
            encoded = self._encoded(value)
        except BaseException:
            if begun:
                await self._give_up(state, keys)
            raise
        if begun:
            await self._keep(state, keys, encoded, begun, me)
        return value, encoded

    async def _take_turn(self, state: SharedState, keys: _Keys, me: str) -> str | bytes:
        """Waits until this process may compute; returns the generation, or another's value.

        It returns '' where Redis is away.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + self._patience
        while True:
            takes_over = loop.time() >= until
            arguments = [uuid4().hex, self._ttl, me, _milliseconds(COMPUTING), int(takes_over)]
            names = [keys.generation, keys.flight, keys.entry]
            try:
                generation, mine, entry = await state.call(partial(_run, BEGIN, names, arguments))
            except SharedStateUnavailable:
                return ""
            found = _value(entry, generation)
            if self._decoded(found) is not MISS:
                if mine:
                    await self._give_up(state, keys)
                return cast("bytes", found)
            if mine:
                return str(generation.decode())
            await asyncio.sleep(POLL)

    async def _give_up(self, state: SharedState, keys: _Keys) -> None:
        with suppress(SharedStateUnavailable):
            await state.call(lambda client: client.unlink(keys.flight))

    async def _read(self, state: SharedState, entry: str, generation: str) -> bytes | None:
        try:
            found: list[Any] = await state.call(lambda client: client.mget(entry, generation))
        except SharedStateUnavailable:
            return None
        return _value(*found)

    async def _keep(
        self, state: SharedState, keys: _Keys, encoded: bytes, generation: str, computed_by: str
    ) -> None:
        if len(encoded) > VALUE_MAX_BYTES:
            log.warning(
                "cache.value_too_large",
                extra={"cache": self.name, "bytes": len(encoded), "tenant_id": current_tenant()},
            )
            with suppress(SharedStateUnavailable):
                await state.call(lambda client: client.unlink(keys.entry, keys.flight))
            return
        names = [keys.entry, keys.generation, keys.index, keys.flight]
        arguments = [encoded, self._ttl, self._entries, generation, computed_by]
        with suppress(SharedStateUnavailable):
            await state.call(partial(_run, KEEP, names, arguments))

    def _encoded(self, value: Value) -> bytes:
        return self._adapter.dump_json(value)

    def _decoded(self, encoded: bytes | None) -> Any:  # a Value
        """Returns the value; `MISS` if there is none, or another release wrote another form."""
        if encoded is None:
            return MISS
        try:
            return self._adapter.validate_json(encoded)
        except ValidationError:
            return MISS

    def _entry(self, parts: tuple[str, ...]) -> str:
        return tenant_key("cache", self.name, *parts)

    def _generation(self) -> str:
        return tenant_key("cache-generation", self.name)

    def _keys(self, parts: tuple[str, ...]) -> _Keys:
        return _Keys(
            entry=self._entry(parts),
            generation=self._generation(),
            index=tenant_key("cache-index", self.name),
            flight=tenant_key("cache-flight", self.name, *parts),
        )


_scripts: Final[dict[str, AsyncScript]] = {}


async def _run(text: str, keys: list[str], arguments: list[Any], client: Redis) -> Any:
    """Runs a script by its digest, and sends its text where the server does not have it."""
    script = _scripts.get(text)
    if script is None:
        script = _scripts[text] = client.register_script(text)
    return await script(keys=keys, args=arguments, client=client)


def _value(entry: bytes | None, generation: bytes | None) -> bytes | None:
    """Returns the value of an entry; None if there is none of this generation."""
    if entry is None or generation is None or not entry.startswith(generation + b":"):
        return None
    return entry[len(generation) + 1 :]


def _milliseconds(duration: timedelta) -> int:
    return int(duration / timedelta(milliseconds=1))
