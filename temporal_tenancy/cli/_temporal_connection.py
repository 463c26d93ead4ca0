"""A command's connection to Temporal, on which a server that hangs is soon told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from temporalio.client import Client, Plugin
from temporalio.service import RPCError, RPCStatusCode, ServiceClient

from temporal_tenancy.cli._not_reachable import SILENT
from temporal_tenancy.cli._temporal_config import temporal_config
from temporal_tenancy.core.trace_context import client_plugins
from temporal_tenancy.sdk._private import CheckingServiceClient

# A person waits. A server that works answers within a second, and within a few where the machine
# is busy; the SDK itself would wait 30 s for a connection that was accepted, and for each request.
ANSWER_TIMEOUT: Final = timedelta(seconds=10)


# Their answers come from a worker, however long it takes.
_FROM_WORKERS: Final = ("execute_multi_operation", "query_workflow", "update_workflow_execution")


async def connect_temporal(
    plugins: Sequence[Plugin], *, within: timedelta = ANSWER_TIMEOUT
) -> Client:
    """Connects with `plugins` to the Temporal server that the environment names.

    Raises:
        RuntimeError: there is no such server, or it rejects the connection.
        RPCError: it has not answered `within` this time.
        ConfigurationError: Temporal's settings cannot be read.
    """
    config = temporal_config()
    try:
        # `connect_timeout` bounds the TCP connection alone, and not the request that follows it.
        async with asyncio.timeout(within.total_seconds()):
            return await Client.connect(
                **config, plugins=[*plugins, *client_plugins()], connect_timeout=within
            )
    except TimeoutError:
        raise RPCError(SILENT, RPCStatusCode.DEADLINE_EXCEEDED, b"") from None


def impatient(client: Client, *, within: timedelta = ANSWER_TIMEOUT) -> Client:
    """Returns `client` with a limit on each request that the server itself answers.

    What waits for a worker or for the end of a run is not limited.
    """
    config = client.config(active_config=True)
    config["service_client"] = _Impatient(config["service_client"], within)
    config["plugins"] = []  # they are part of this configuration already
    return Client(**config)


class _Impatient(CheckingServiceClient):
    """A connection whose requests end soon."""

    def __init__(self, inner: ServiceClient, within: timedelta) -> None:
        super().__init__(inner)
        self._within = within

    def admit(self, service: str, rpc: str, request: Any) -> Any:
        return request

    def time_limit(self, rpc: str, request: Any) -> timedelta | None:
        return None if _is_long(rpc, request) else self._within

    def update_rpc_metadata(self, metadata: Mapping[str, str | bytes]) -> None:
        self._inner.update_rpc_metadata(metadata)

    def update_api_key(self, api_key: str | None) -> None:
        self._inner.update_api_key(api_key)


def _is_long(rpc: str, request: Any) -> bool:
    """Whether a request waits for more than the server."""
    return (
        rpc.startswith("poll_")
        or rpc in _FROM_WORKERS
        or bool(getattr(request, "wait_new_event", False))
        or bool(getattr(request, "long_poll_token", b""))
    )
