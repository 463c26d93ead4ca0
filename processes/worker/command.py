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
from processes.connect import observed
from processes.lifecycle.exits import WorkerExit
from processes.lifecycle.program import run_program
from processes.worker.relaying import RelayProcess
from processes.worker.relaying import relay as start_relay
from processes.worker.serve import Options, serve
from processes.worker.slots import MAX_ACTIVITIES, TARGET_CPU, TARGET_MEMORY, SlotOptions, Slots
from saas.queues import Queue
from saas.settings import load_settings, refuse_misspelled_settings
from temporal_tenancy.cli import ExitCode
from temporal_tenancy.core import did_you_mean
from temporal_tenancy.outbox import RelayOptions
from workflows import WORKFLOWS


def main(
    arguments: Sequence[str],
    *,
    workflows: Sequence[type] = WORKFLOWS,
    activities: Sequence[Callable[..., Any]] = ACTIVITIES,
    relaying: RelayOptions = RelayOptions(),  # noqa: B008  # it is frozen
) -> int:
    """Runs a worker with `workflows` and `activities`, or a relay, and returns the exit code.

    If it cannot run, it prints one sentence on standard error.
    """

    def work(
        relay: Annotated[
            bool,
            typer.Option("--relay", help="Run a relay: start workflows for outbox messages."),
        ] = False,
        queue: Annotated[
            list[str] | None,
            typer.Option(
                metavar="QUEUE",
                help="A queue to serve; repeatable, or comma-separated.",
                show_default="all",
            ),
        ] = None,
        max_activities: Annotated[
            int, typer.Option(min=1, help="Concurrent activities per queue.")
        ] = MAX_ACTIVITIES,
        slots: Annotated[
            Slots,
            typer.Option(
                help="What limits activities: --max-activities only, or also the machine's use of "
                "memory and processors, up to --target-memory and --target-cpu."
            ),
        ] = Slots.FIXED,
        target_memory: Annotated[
            float | None,
            typer.Option(
                metavar="PART",
                help="The share of the machine's memory to use, with --slots resource.",
                show_default=str(TARGET_MEMORY),
            ),
        ] = None,
        target_cpu: Annotated[
            float | None,
            typer.Option(
                metavar="PART",
                help="The share of the machine's processors to use, with --slots resource.",
                show_default=str(TARGET_CPU),
            ),
        ] = None,
        health_port: Annotated[
            int | None,
            typer.Option(
                min=0,
                max=65535,
                help="The port of /healthz and /readyz; 0: any free port.",
                show_default="WORKER_HEALTH_PORT, or 8080",
            ),
        ] = None,
        identity: Annotated[
            str | None,
            typer.Option(metavar="NAME", help="Its identity in Temporal.", show_default="pid@host"),
        ] = None,
        ready_file: Annotated[
            Path | None, typer.Option(help="A JSON file to write when ready for work.")
        ] = None,
    ) -> None:
        """Serves task queues, or runs a relay, until SIGTERM or Ctrl-C, then finishes its work."""
        refuse_misspelled_settings()
        settings = load_settings()
        name = identity or f"{os.getpid()}@{socket.gethostname()}"
        logs.configure(settings.log_level, settings.log_format, worker=name)
        port = settings.worker_health_port if health_port is None else health_port
        if relay:
            _refuse_worker_options(queue=queue, slots=slots, memory=target_memory, cpu=target_cpu)
            host = settings.worker_health_host
            with observed(settings, "relay", worker=name):
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
        with observed(settings, "worker", worker=name):
            serve(options, settings)

    return run_program(work, arguments, name="worker.py")


def _queues(values: Sequence[str]) -> list[str]:
    """Returns the named queues, each once, or all queues if none is named."""
    known = [str(queue) for queue in Queue]
    named = [name.strip() for value in values for name in value.split(",") if name.strip()]
    for name in named:
        if name not in known:
            raise WorkerExit(
                ExitCode.REFUSED,
                f'UsageError: "{name}" is not a queue.{did_you_mean(name, known)} The queues are '
                f"{', '.join(known)}.",
            )
    return list(dict.fromkeys(named)) or known


def _slots(
    kind: Slots, max_activities: int, *, memory: float | None, cpu: float | None
) -> SlotOptions:
    """Returns the requested slots; rejects a target that would have no effect."""
    for name, target in (("--target-memory", memory), ("--target-cpu", cpu)):
        if target is not None and kind is not Slots.RESOURCE:
            raise WorkerExit(
                ExitCode.REFUSED,
                f'UsageError: {name} needs "--slots resource". Add that, or leave {name} out.',
            )
        if target is not None and not 0 < target <= 1:
            raise WorkerExit(
                ExitCode.REFUSED,
                f"UsageError: {name} must be above 0 and at most 1, a share of the machine's, "
                f"as in {name} 0.8.",
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
    """Rejects options that only a worker of task queues uses."""
    if queue or slots is not Slots.FIXED or memory is not None or cpu is not None:
        raise WorkerExit(
            ExitCode.REFUSED,
            "UsageError: a relay serves no task queue and runs no activities. Leave out --queue, "
            "--slots and the targets, or leave out --relay.",
        )
