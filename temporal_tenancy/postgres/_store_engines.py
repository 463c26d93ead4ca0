"""The engines of a process's stores: one for each URL, made when a tenant first needs it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import greenlet_spawn

from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.stores import Isolation, Store, StoreDirectory
from temporal_tenancy.postgres._engines import pool_of
from temporal_tenancy.postgres._servers import Server
from temporal_tenancy.postgres._store_entry import require_complete
from temporal_tenancy.postgres.database_urls import database_url
from temporal_tenancy.postgres.secret_texts import hidden

# Engines that are kept, with their compiled statements and without a connection. An engine that has
# been closed is made again in a few milliseconds.
KEPT: Final = 256


class StoreEngines:
    """Finds the engine of a tenant's store, and closes those that nobody needs."""

    def __init__(
        self, directory: StoreDirectory, make: Callable[[URL, Server], AsyncEngine]
    ) -> None:
        """
        Args:
            directory: says where each tenant's rows are.
            make: returns an engine for a URL.
        """
        self.directory = directory
        self._make = make
        self._engines: OrderedDict[str, AsyncEngine] = OrderedDict()  # least recently used first
        self._urls: dict[str, str] = {}  # by the name of the store
        self._servers: dict[tuple[str | None, int | None], Server] = {}

    def __iter__(self) -> Iterator[AsyncEngine]:
        return iter(list(self._engines.values()))

    async def store_of(self, tenant: str) -> Store | None:
        """Returns the tenant's store; None for the shared one of the process's own database.

        Raises:
            ConfigurationError: the store lacks what its isolation needs.
        """
        store = await self.directory.store_of(tenant)
        require_complete(store)
        if store.isolation is Isolation.SHARED and store.url is None:
            return None
        return store

    async def engine_of(self, store: Store) -> AsyncEngine | None:
        """Returns the engine for the store's URL; None if it has none.

        A URL that differs from the store's last one replaces the engine: the old one's idle
        connections are closed now, and those in use when their sessions end.
        """
        url = hidden(store.url)
        if url is None:
            return None
        before = self._urls.get(store.name)
        if before != url:
            self._urls[store.name] = url
            if before is not None and before not in self._urls.values():
                await self._retire(before)
        engine = self._engines.get(url)
        if engine is None:
            engine = self._engines[url] = self._make_for(store.name, url)
        self._engines.move_to_end(url)
        if len(self._engines) > KEPT:
            await self._retire_the_least_used(but=url)
        return engine

    async def dispose(self) -> None:
        """Closes all connections."""
        engines = list(self._engines.values())
        self._engines.clear()
        self._urls.clear()
        for engine in engines:
            await greenlet_spawn(pool_of(engine).retire)

    def _make_for(self, name: str, url: str) -> AsyncEngine:
        try:
            parsed = database_url(url)
        except ConfigurationError as error:
            raise ConfigurationError(f'the URL of the store "{name}" is none: {error}') from None
        server = self._servers.setdefault((parsed.host, parsed.port), Server())
        return self._make(parsed, server)

    async def _retire_the_least_used(self, *, but: str) -> None:
        for url, engine in self._engines.items():
            if url != but and not pool_of(engine).checkedout():
                await self._retire(url)
                return

    async def _retire(self, url: str) -> None:
        engine = self._engines.pop(url, None)
        if engine is not None:
            await greenlet_spawn(pool_of(engine).retire)
