"""What a process runs: workers of task queues, and relays of the outbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from temporal_tenancy.outbox import Relay


class Watched(Protocol):
    """What a process's health depends on."""

    @property
    def task_queue(self) -> str:
        """The name of the queue."""

    @property
    def is_running(self) -> bool:
        """Whether it takes work."""

    @property
    def is_shutdown(self) -> bool:
        """Whether it has ended."""


class Consumer(Watched, Protocol):
    """A consumer of a queue, such as a Temporal `Worker`."""

    async def run(self) -> None:
        """Works until `shutdown()`; raises what ended it earlier."""

    async def shutdown(self) -> None:
        """Tells `run()` to finish what is in progress and return."""


class RelayConsumer:
    """A relay as a `Consumer`."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self.task_queue = relay.task_queue

    @property
    def is_running(self) -> bool:
        """Whether the last claim succeeded."""
        return self._relay.is_running

    @property
    def is_shutdown(self) -> bool:
        """Whether the relay has ended."""
        return self._relay.is_shutdown

    async def run(self) -> None:
        """Relays until `shutdown()`."""
        await self._relay.run()

    async def shutdown(self) -> None:
        """Tells the relay to start what it has claimed, and then to end."""
        self._relay.stop()
