"""The server that processes share: its client, with short timeouts and a circuit."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.scoped_value import ScopedValue
from temporal_tenancy.shared_state._circuit import Circuit
from temporal_tenancy.shared_state._errors import SharedStateUnavailable
from temporal_tenancy.shared_state._keys import platform_key, refuse_workflow_code

if TYPE_CHECKING:
    from redis.asyncio import Redis

TIMEOUT: Final = timedelta(milliseconds=500)
CONNECTIONS: Final = 10
SCHEMES: Final = ("redis", "rediss", "unix", "valkey", "valkeys")

_TRIAL: Final = "return redis.call('set', KEYS[1], '1', 'px', 1000)"

Result = TypeVar("Result")

log: Final = logging.getLogger(__name__)


class SharedState:
    """A Redis or Valkey server that processes share, or none.

    Without a server, caches miss, locks refuse, and each process has rates of its own. It connects
    when it is first used, in the event loop that uses it then and for ever after.
    """

    def __init__(
        self,
        url: str | None,
        *,
        timeout: timedelta = TIMEOUT,
        connections: int = CONNECTIONS,
    ) -> None:
        """
        Args:
            url: `redis://user:password@host:port/0`, `rediss://` for TLS, or
                `unix:///path?db=0`; `valkey://` and `valkeys://` mean the same as the first two.
                None: no server.
            timeout: how long a call may take, connecting included.
            connections: at most that many at once.

        Raises:
            ConfigurationError: the URL is not one; the message does not quote it.
        """
        self.timeout = timeout.total_seconds()
        self.circuit = Circuit()
        self.flights: dict[str, asyncio.Future[bytes]] = {}  # of values that are being computed
        self._client = None if url is None else _client(url, self.timeout, connections)
        self._tls = url is not None and urlsplit(url).scheme in ("rediss", "valkeys")
        self.counters: dict[str, Any] = {}  # limiters, by where they count

    @property
    def client(self) -> Redis | None:
        """The client; its keys come from `tenant_key()` and `platform_key()`."""
        return self._client

    async def call(
        self, function: Callable[[Redis], Awaitable[Result]], *, always: bool = False
    ) -> Result:
        """Returns what `function` returns for the client.

        Args:
            function: does one round trip or two.
            always: try even while the server is away.

        Raises:
            SharedStateUnavailable: there is no server, it does not answer in time, or it refuses.
        """
        if self._client is None:
            raise SharedStateUnavailable("Redis is not set. Give SharedState its URL.")
        from redis.exceptions import LockError, RedisError

        if not always and not self.circuit.admits():
            raise SharedStateUnavailable(f"Redis is away: {self.circuit.reason}")
        try:
            async with asyncio.timeout(self.timeout):
                result = await function(self._client)
        except LockError:  # an answer
            self._answers()
            raise
        except (RedisError, OSError, TimeoutError) as error:
            why = self._reason(error)
            if self.circuit.failed(why):
                log.warning("shared_state.away", extra={"reason": why})
            raise SharedStateUnavailable(f"Redis is away: {why}") from None
        self._answers()
        return result

    async def check(self) -> str | None:
        """Returns why the server does not serve, in a sentence; None if it does.

        It keeps a key for a second: a server may answer, and take no writes or no scripts.
        """
        client: Any = self._client  # whose commands have no types
        if client is None:
            return "no Redis is set."
        from redis.exceptions import RedisError

        try:
            async with asyncio.timeout(max(self.timeout, 2.0)):
                await client.execute_command("EVAL", _TRIAL, 1, platform_key("trial"))
        except (RedisError, OSError, TimeoutError) as error:
            return self._reason(error)
        return None

    async def close(self) -> None:
        """Closes the connections."""
        if self._client is not None:
            await self._client.aclose(close_connection_pool=True)

    def _reason(self, error: BaseException) -> str:
        from temporal_tenancy.shared_state._reasons import reason

        return reason(error, tls=self._tls)

    def _answers(self) -> None:
        if self.circuit.succeeded():
            log.warning("shared_state.back")


_current: Final[ScopedValue[SharedState]] = ScopedValue(
    "temporal_tenancy_shared_state", "the shared state"
)


def use_shared_state(state: SharedState) -> AbstractContextManager[SharedState]:
    """Makes caches, locks and rates use `state` inside the block."""
    return _current.provide(state)


def current_shared_state() -> SharedState:
    """Returns the shared state that is in use.

    Raises:
        ScopeMissing: this is workflow code.
        ConfigurationError: none is.
    """
    refuse_workflow_code()
    state = _current.peek()  # the process's: safe to use after its block, unlike a scope
    if state is None:
        raise ConfigurationError(
            "no shared state is set. Give the plugin the feature shared_state(SharedState(url)), "
            "or wrap the code in use_shared_state(...)."
        )
    return state


def _client(url: str, timeout: float, connections: int) -> Redis:
    # A process without a server is spared it: it is a tenth of what a worker loads.
    from redis.asyncio import BlockingConnectionPool, Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    wrong = ConfigurationError(
        "the URL of Redis has the form redis://user:password@host:port/0, rediss:// for TLS, or "
        "unix:///path. Correct it."
    )
    try:
        scheme, path = urlsplit(url).scheme, urlsplit(url).path
        if scheme not in SCHEMES or not (urlsplit(url).hostname or scheme == "unix"):
            raise wrong
        # The client would take database 0 for a path that is no number.
        if scheme != "unix" and not re.fullmatch("(/[0-9]*)?", path, re.ASCII):
            raise wrong
        pool = BlockingConnectionPool.from_url(
            url.replace("valkey", "redis", 1) if scheme.startswith("valkey") else url,
            max_connections=connections,
            timeout=timeout,
            socket_connect_timeout=timeout,
            socket_timeout=None,  # a call has a timeout as a whole
            retry=Retry(NoBackoff(), 0),
            protocol=2,  # a new connection asks for nothing but to be let in
        )
    except (ValueError, TypeError):  # whose message may quote the URL
        raise wrong from None
    return Redis(connection_pool=pool)
