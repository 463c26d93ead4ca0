"""`make dashboards`: the dashboards' panels, plotted from their own queries.

Real processes run under a made-up load for two minutes, the real Prometheus scrapes them, and
matplotlib plots what the queries of each panel return. A panel that shows nothing is an error.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import re
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, Final

import httpx
import matplotlib as mpl
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from temporalio.client import Client

from dev import local_saas
from dev.devstack.errors import PartMissing
from dev.devstack.processes import OwnedProcess
from dev.devstack.signals import orderly_stop
from dev.devstack.stack import Stack, without_servers
from dev.local_saas import CommandFailed
from dev.monitoring.dashboards import AUTO, DASHBOARDS, TENANT, Board, Panel, Query
from dev.monitoring.files import FOLDER
from dev.sample_data.load import load_events, unbillable_flight
from temporal_tenancy import Database, TenantScope, enter, tenant_session, use_database
from temporal_tenancy.cli import exit_process
from temporal_tenancy.outbox import enqueue
from workflows import WORKFLOWS  # noqa: F401  # importing registers the jobs

IMAGES: Final = Path(__file__).parent / "images"
SECONDS: Final = 120.0  # of load
SCRAPED_EVERY: Final = 2  # seconds
COLUMNS: Final = 2
PANEL: Final = (8.5, 2.8)  # inches
BROKEN: Final = "f9"  # a flight with a negative distance, in April
BACKFILLED: Final = ("--from", "2013-02-01", "--to", "2013-12-01")
SHARES: Final = {"ua": 1, "b6": 2, "dl": 4, "aa": 4, "mq": 8, "wn": 20}  # asks each n-th time
UNKNOWN: Final = 25
FORGED: Final = 40
PAUSE: Final = 0.1  # seconds
_LABEL: Final = re.compile(r"{{(\w+)}}")  # in a legend
WORST: Final = 12  # series in a legend

mpl.use("agg")


class NothingFound(Exception):
    """A panel's queries find no series."""


@dataclass(frozen=True)
class Line:
    """A series."""

    name: str
    times: Sequence[float]  # Unix
    values: Sequence[float]  # NaN: there is none

    @property
    def highest(self) -> float:
        """The highest value."""
        return max(filter(math.isfinite, self.values))


def main() -> int:
    """Takes the pictures; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m docs.dashboard_pictures", description=__doc__)
    parser.add_argument("--to", type=Path, default=IMAGES, help="the folder to put them in")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of load")
    parser.add_argument("--prometheus", metavar="URL", help="plot what this one knows instead")
    options = parser.parse_args()
    try:
        with orderly_stop(), ExitStack() as stack:
            began = time.time()
            if options.prometheus:
                url, began = options.prometheus, began - options.seconds
            else:
                scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tenancy-")))
                url, began = stack.enter_context(_observed_run(scratch, options.seconds))
            for board in DASHBOARDS:
                print(plot(board, url, began, time.time(), options.to))
    except PartMissing as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 3
    except (NothingFound, CommandFailed) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def plot(board: Board, prometheus: str, start: float, end: float, folder: Path) -> Path:
    """Plots each panel of a dashboard into one picture; returns its path.

    Args:
        board: the dashboard.
        prometheus: its URL.
        start: Unix time.
        end: Unix time.
        folder: created if missing.

    Raises:
        NothingFound: the queries of a panel find nothing.
    """
    rows = -(-len(board.panels) // COLUMNS)
    figure = Figure(figsize=(PANEL[0] * COLUMNS, PANEL[1] * rows + 0.5), layout="constrained")
    figure.suptitle(board.title)
    places = figure.subplots(rows, COLUMNS, squeeze=False).flatten()
    with httpx.Client(base_url=prometheus, timeout=30) as http:
        for panel, axes in zip(board.panels, places, strict=False):
            lines = [line for query in panel.queries for line in _lines(http, query, start, end)]
            if not lines:
                raise NothingFound(f'"{panel.title}" of {board.title} shows nothing.')
            _draw(axes, panel, lines)
            axes.set_xlim(start, end)
    for axes in places[len(board.panels) :]:
        axes.set_axis_off()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"dashboard-{board.uid.removeprefix('tenancy-')}.png"
    figure.savefig(path, dpi=80)
    return path


def _lines(http: httpx.Client, query: Query, start: float, end: float) -> Iterator[Line]:
    step = max((end - start) / 240, 1)
    answer = http.get(
        "/api/v1/query_range",
        params={
            "query": query.expression.replace(TENANT, ".+"),
            "start": start,
            "end": end,
            "step": step,
        },
    )
    answer.raise_for_status()
    for series in answer.json()["data"]["result"]:
        labels = {name: value for name, value in series["metric"].items() if name != "__name__"}
        shown = _legend(query, labels)
        points = {round((float(at) - start) / step): float(v) for at, v in series["values"]}
        if any(map(math.isfinite, points.values())):
            count = int((end - start) / step) + 1
            times = [start + number * step for number in range(count)]
            yield Line(shown or "all", times, [points.get(n, math.nan) for n in range(count)])


def _legend(query: Query, labels: Mapping[str, str]) -> str:
    if query.legend == AUTO:
        return ", ".join(labels.values())
    return _LABEL.sub(lambda found: labels.get(found[1], ""), query.legend)


def _draw(axes: Axes, panel: Panel, lines: Sequence[Line]) -> None:
    axes.set_title(panel.title, fontsize=10, loc="left")
    highest = sorted(lines, key=lambda line: -line.highest)
    for line in highest:
        label = line.name if line in highest[:WORST] else None
        axes.plot(line.times, line.values, label=label, linewidth=1.3, marker=".", markersize=1)
    if not highest[0].highest:
        axes.set_ylim(top=1)
    axes.set_ylim(bottom=0)
    if panel.unit == "short" and 1 <= highest[0].highest < 10:
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _with_unit(value, panel.unit)))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: _clock(at)))
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    # Beside the graph, where it covers no line.
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.02), frameon=False)


def _clock(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%H:%M:%S}"


def _with_unit(value: float, unit: str) -> str:
    """Returns a value as Grafana shows it in a unit."""
    match unit:
        case "percentunit":
            return f"{value * 100:g} %"
        case "s" if 0 < value < 1:
            return f"{value * 1000:g} ms"
        case "s":
            return f"{value:g} s"
        case "ops":
            return f"{value:g} /s"
        case _:
            return f"{value:g}"


@contextmanager
def _observed_run(scratch: Path, seconds: float) -> Iterator[tuple[str, float]]:
    """Runs the reference SaaS under load; yields Prometheus' URL and when the load began."""
    program = shutil.which("prometheus")
    if program is None:
        raise PartMissing(
            'there is no Prometheus on the PATH. "apt-get install prometheus" installs it on '
            "Debian."
        )
    environ = {
        **without_servers(os.environ),
        "METRICS_COLLECT_SECONDS": "1",
        "WEB_HEALTH_PORT": "0",
        "DRAIN_DELAY_SECONDS": "0",
        "RELAY_ATTEMPTS": "2",
        "RELAY_BACKOFF": "1",
    }
    stack = Stack(scratch / "stack", environ=environ, ui_port=None, durable=False, outside=True)
    with stack, ExitStack() as running:
        local_saas.starter(stack, "migrate", "--harden", "--yes", owner=True)
        local_saas.load_sample_data(stack)
        asyncio.run(_break_usage(stack))
        local_saas.starter(stack, "schedules", "apply")
        local_saas.starter(stack, "tenants", "suspend", "ha")
        programs = [
            local_saas.make_worker(stack),
            local_saas.make_relay(stack),
            local_saas.make_web(stack),
        ]
        for each in programs:
            each.start()
            running.callback(each.stop)
        targets = [str(each.ready["health"]).removeprefix("http://") for each in programs]
        url = running.enter_context(_prometheus(program, scratch, targets))
        began = time.time()
        for job in ("billing.cycle", "analytics.aggregate"):
            local_saas.starter(stack, "schedules", "backfill", job, *BACKFILLED)
        local_saas.starter(stack, "schedules", "trigger", "retention.enforce")
        asyncio.run(_work(stack, seconds))
        yield url, began


async def _work(stack: Stack, seconds: float) -> None:
    """Asks for jobs: two years of fan-outs, one of which fails for a tenant, and messages."""
    database = local_saas.runtime_database(stack)
    client = await Client.connect(stack.environment()["TEMPORAL_ADDRESS"])
    until = time.monotonic() + seconds
    try:
        for number in count():
            day = (date(2013, 1, 1) + timedelta(days=number % 365)).isoformat()
            for tenant, every in SHARES.items():
                if number % every == 0:
                    await _ask(database, tenant, "report.daily", period=day)
            if number % UNKNOWN == 0:  # an event that no provider has sent
                await _ask(database, "ua", "payments.webhook", event_id=f"evt-{number}")
            if number % FORGED == 0:  # an input of one tenant under the id of another
                await client.start_workflow(
                    "payments.webhook",
                    {"tenant_id": "ua", "event_id": f"forged-{number}"},
                    id=f"dl/payments.webhook/forged-{number}",
                    task_queue="critical",
                )
            if time.monotonic() > until:
                return
            await asyncio.sleep(PAUSE)
    finally:
        await database.dispose()


async def _ask(database: Database, tenant: str, job: str, **values: str) -> None:
    with use_database(database), enter(TenantScope(tenant)):
        async with tenant_session():
            await enqueue(job, {"tenant_id": tenant, **values})


async def _break_usage(stack: Stack) -> None:
    database = local_saas.runtime_database(stack)
    try:
        await load_events(database, BROKEN, [unbillable_flight(BROKEN)])
    finally:
        await database.dispose()


@contextmanager
def _prometheus(program: str, folder: Path, targets: Sequence[str]) -> Iterator[str]:
    config: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": f"{SCRAPED_EVERY}s", "evaluation_interval": "10s"}
    config["rule_files"] = [str(FOLDER / "rules.yml")]
    config["scrape_configs"] = [
        {"job_name": "tenancy", "honor_labels": True, "static_configs": [{"targets": targets}]}
    ]
    config.pop("alerting", None)
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    process = OwnedProcess(
        [
            program,
            f"--config.file={file}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        log=folder / "prometheus.log",
        environ={},
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()


if __name__ == "__main__":
    exit_process(main())
