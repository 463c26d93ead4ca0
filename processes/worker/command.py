"""The command line of `worker.py`."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from activities import ACTIVITIES
from processes import logs
from processes.lifecycle.exits import WorkerExit
from processes.lifecycle.program import run_program
from processes.worker.relaying import RelayProcess
from processes.worker.relaying import relay as start_relay
from processes.worker.serve import Options, serve
from processes.worker.slots import MAX_ACTIVITIES, TARGET_CPU, TARGET_MEMORY, SlotOptions, Slots
from saas.queues import Queue
from saas.settings import load_settings
from temporal_tenancy.cli import ExitCode
from temporal_tenancy.outbox import RelayOptions
from workflows import WORKFLOWS


def main(
    arguments: Sequence[str],
    *,
    workflows: Sequence[type] = WORKFLOWS,
    activities: Sequence[Callable[..., Any]] = ACTIVITIES,
    relaying: RelayOptions = RelayOptions(),  # noqa: B008  # it is frozen
) -> int:
    """Runs a worker of `workflows` and `activities`, or a relay, and returns the exit code.

    Whatever keeps it from working is one sentence on standard error.
    """

    def work(
        relay: Annotated[
            bool,
            typer.Option("--relay", help="Turn outbox messages into workflows; serve no queue."),
        ] = False,
        queue: Annotated[
            list[str] | None,
            typer.Option(
                metavar="QUEUE",
                help="Which to serve; more than once, or with commas. [default: all]",
            ),
        ] = None,
        max_activities: Annotated[
            int, typer.Option(min=1, help="How many at once, of each queue.")
        ] = MAX_ACTIVITIES,
        slots: Annotated[
            Slots,
            typer.Option(
                help="Whether another activity is taken: up to --max-activities, or also only "
                "while the machine's memory and processors are in use less than this."
            ),
        ] = Slots.FIXED,
        target_memory: Annotated[
            float | None,
            typer.Option(
                metavar="PART",
                help=f"Of the machine's, for --slots resource. [default: {TARGET_MEMORY}]",
            ),
        ] = None,
        target_cpu: Annotated[
            float | None,
            typer.Option(
                metavar="PART",
                help=f"Of the machine's, for --slots resource. [default: {TARGET_CPU}]",
            ),
        ] = None,
        health_port: Annotated[
            int | None,
            typer.Option(
                min=0,
                max=65535,
                help="Where /healthz and /readyz are; 0: any free one. "
                "[default: WORKER_HEALTH_PORT, or 8080]",
            ),
        ] = None,
        identity: Annotated[
            str | None,
            typer.Option(metavar="NAME", help="What Temporal calls it. [default: pid@host]"),
        ] = None,
        ready_file: Annotated[
            Path | None, typer.Option(help="Written, as JSON, when work is taken.")
        ] = None,
    ) -> None:
        """Serves task queues, or relays messages, until SIGTERM or Ctrl-C; what runs may finish."""
        settings = load_settings()
        name = identity or f"{os.getpid()}@{socket.gethostname()}"
        logs.configure(settings.log_level, settings.log_format, worker=name)
        port = settings.worker_health_port if health_port is None else health_port
        if relay:
            _refuse_worker_options(queue=queue, slots=slots, memory=target_memory, cpu=target_cpu)
            host = settings.worker_health_host
            start_relay(RelayProcess(name, host, port, ready_file, relaying), settings)
            return
        options = Options(
            queues=_queues(queue or []),
            identity=name,
            slots=_slots(slots, max_activities, memory=target_memory, cpu=target_cpu),
            health_host=settings.worker_health_host,
            health_port=port,
            ready_file=ready_file,
            workflows=workflows,
            activities=activities,
        )
        serve(options, settings)

    return run_program(work, arguments, name="worker.py")


def _queues(given: Sequence[str]) -> list[str]:
    """The queues that are named, each once; all of them where none is."""
    known = [str(queue) for queue in Queue]
    named = [name.strip() for each in given for name in each.split(",") if name.strip()]
    for name in named:
        if name not in known:
            raise WorkerExit(
                ExitCode.REFUSED,
                f'UsageError: "{name}" is not a queue. There are: {", ".join(known)}.',
            )
    return list(dict.fromkeys(named)) or known


def _slots(
    kind: Slots, max_activities: int, *, memory: float | None, cpu: float | None
) -> SlotOptions:
    """The slots that are asked for; a target that nothing would look at is refused."""
    for name, given in (("--target-memory", memory), ("--target-cpu", cpu)):
        if given is not None and kind is not Slots.RESOURCE:
            raise WorkerExit(
                ExitCode.REFUSED,
                f'UsageError: {name} is for "--slots resource". Add that, or leave {name} out.',
            )
        if given is not None and not 0 < given <= 1:
            raise WorkerExit(
                ExitCode.REFUSED,
                f"UsageError: {name} is a part of the machine's, above 0 and at most 1, as in "
                f"{name} 0.8.",
            )
    return SlotOptions(
        kind,
        max_activities,
        TARGET_MEMORY if memory is None else memory,
        TARGET_CPU if cpu is None else cpu,
    )


def _refuse_worker_options(
    *, queue: list[str] | None, slots: Slots, memory: float | None, cpu: float | None
) -> None:
    """Refuses what only a worker of task queues heeds."""
    if queue or slots is not Slots.FIXED or memory is not None or cpu is not None:
        raise WorkerExit(
            ExitCode.REFUSED,
            "UsageError: a relay serves no task queue and runs no activities. Leave out --queue, "
            "--slots and the targets, or leave out --relay.",
        )
