"""Blocks on a psycopg connection that tell `with` from `async with`."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import Any, NoReturn

import psycopg

from temporal_tenancy.core.errors import ConfigurationError


class AsyncBlock(AbstractAsyncContextManager[psycopg.AsyncConnection[Any]]):
    """A block for `async with`, which says so to a plain `with`."""

    def __init__(self, block: AbstractAsyncContextManager[psycopg.AsyncConnection[Any]]) -> None:
        self._block = block

    async def __aenter__(self) -> psycopg.AsyncConnection[Any]:
        return await self._block.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._block.__aexit__(kind, error, traceback)

    def __enter__(self) -> NoReturn:
        raise ConfigurationError(
            "this connection is async. Write: async with tenant_transaction(connection)."
        )

    def __exit__(self, *_: object) -> None: ...


class SyncBlock(AbstractContextManager[psycopg.Connection[Any]]):
    """A block for `with`, which says so to an `async with`."""

    def __init__(self, block: AbstractContextManager[psycopg.Connection[Any]]) -> None:
        self._block = block

    def __enter__(self) -> psycopg.Connection[Any]:
        return self._block.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return self._block.__exit__(kind, error, traceback)

    async def __aenter__(self) -> NoReturn:
        raise ConfigurationError(
            "this connection is not async. Write: with tenant_transaction(connection)."
        )

    async def __aexit__(self, *_: object) -> None: ...
