"""`python -m benchmarks.observing.observed_process relay|worker|collector on|off`.

With `on` it logs at "info" as JSON, measures and meters itself, answers `/metrics`, and traces to
OTEL_EXPORTER_OTLP_ENDPOINT. With `off` it does nothing of it. A `collector` takes traces, and
drops them.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Final

from temporalio.client import Client
from temporalio.worker import Worker

from benchmarks.observing.observed_effects import add_observed
from benchmarks.observing.observed_jobs import NAME, ObservedJob
from benchmarks.outbox.outbox_process import OPTIONS
from benchmarks.outbox.outbox_stack import READY
from benchmarks.shared.measure import write_logs_away
from benchmarks.shared.servers import PASSTHROUGH
from processes import logs
from processes.worker.slots import SlotOptions
from temporal_tenancy import Database, Feature, TenancyPlugin, registry
from temporal_tenancy.control_plane import ControlPlaneDirectory
from temporal_tenancy.everything import everything
from temporal_tenancy.lifecycle import Health, Scrape, serving, spare_what_is_loaded
from temporal_tenancy.metering import metering
from temporal_tenancy.metrics import collecting, metrics
from temporal_tenancy.outbox import Relay
from temporal_tenancy.sdk import POLLERS, forward_core_logs

if TYPE_CHECKING:  # the arm without traces does not load them
    from temporal_tenancy.tracing import Tracing

MODULES: Final = ("benchmarks.observing.observed_effects", *PASSTHROUGH)
RELAY: Final = "relay"


async def run(role: str, tracing: Tracing | None) -> None:
    """Runs a relay or a worker until the process is killed."""
    relay_url = os.environ["RELAY_DATABASE_URL"]
    database = (
        Database(platform_url=relay_url)
        if role == RELAY
        else Database(
            tenant_url=os.environ["TENANT_DATABASE_URL"],
            platform_url=os.environ["PLATFORM_DATABASE_URL"],
        )
    )
    async with AsyncExitStack() as stack:
        features: list[Feature] = []
        address = ""
        if tracing is not None:
            features = [metrics()]
            assert features[0].exposes is not None
            scrape = Scrape(features[0].exposes)
            address = await stack.enter_async_context(
                serving(Health(), host="127.0.0.1", port=0, scrape=scrape)
            )
            if role != RELAY:
                features.append(metering(database))
        client = await _client(database, features, tracing)
        if role == RELAY:
            relay = Relay(client, relay_url, options=OPTIONS)
            if tracing is not None:
                await stack.enter_async_context(
                    collecting(client, database, ControlPlaneDirectory(database))
                )
            running = asyncio.create_task(relay.run())
            await relay.until_running()
            _say_ready(address)
            await running
            return
        slots = SlotOptions()
        async with Worker(
            client,
            task_queue=registry[NAME].queue,
            workflows=[ObservedJob],
            activities=[add_observed],
            tuner=slots.tuner(),
            workflow_task_poller_behavior=POLLERS,
            activity_task_poller_behavior=POLLERS,
        ):
            _say_ready(address)
            await asyncio.Event().wait()


def _say_ready(address: str) -> None:
    spare_what_is_loaded()  # as worker.py does
    print(READY, address, flush=True)


async def _client(
    database: Database, features: Sequence[Feature], tracing: Tracing | None
) -> Client:
    plugin = TenancyPlugin(
        directory=ControlPlaneDirectory(database),
        features=[*everything(database), *features],
        passthrough=MODULES,
    )
    plugins = [plugin] if tracing is None else [plugin, tracing.plugin]
    return await Client.connect(os.environ["TEMPORAL_ADDRESS"], plugins=plugins)


def collect() -> None:
    """Answers 200 to whatever is posted, until the process is killed."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Writes no line for each request."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(READY, f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


def main(role: str, arm: str) -> None:
    """Runs the role in the arm."""
    if role == "collector":
        collect()
        return
    on = arm == "on"
    forward_core_logs(measures=on)
    tracing = None
    if on:
        logs.configure("info", "json", worker=role)
        from temporal_tenancy.tracing import start_tracing

        tracing = start_tracing(role)
    else:
        write_logs_away()
    asyncio.run(run(role, tracing))


if __name__ == "__main__":
    main(*sys.argv[1:])
