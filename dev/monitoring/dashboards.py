"""The Grafana dashboards, written with Grafana's own builders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.builders import dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef

SOURCE: Final = DataSourceRef(type_val="prometheus", uid="prometheus")
RANGE: Final = "[5m]"
WIDTH, HEIGHT = 12, 8  # of a panel; a dashboard is 24 wide
TENANT: Final = "$tenant"
AUTO: Final = "__auto"  # Grafana's: the value of the only label


@dataclass(frozen=True)
class Query:
    """One query of a panel."""

    expression: str
    legend: str = AUTO  # or a text with labels, as in "{{queue}}"


@dataclass(frozen=True)
class Panel:
    """A graph over time."""

    title: str
    unit: str  # Grafana's
    queries: tuple[Query, ...]


@dataclass(frozen=True)
class Board:
    """A dashboard."""

    uid: str
    title: str
    panels: tuple[Panel, ...]
    of_tenant: bool = False  # whether a person chooses a tenant


def _rate(counter: str, by: str, where: str = "") -> str:
    return f"sum by ({by}) (rate({counter}{where}{RANGE}))"


def _quantile(q: float, histogram: str, by: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({labels}) (rate({histogram}_bucket{RANGE})))"


_ATTEMPTS: Final = _rate("tenancy_activity_attempts_total", "job")
_FAILED: Final = _rate("tenancy_activity_attempts_total", "job", '{outcome="failed"}')
_CHOSEN: Final = f'{{tenant=~"{TENANT}"}}'
_WORKER_SECONDS: Final = _rate("tenancy_tenant_worker_seconds_total", "tenant", _CHOSEN)

_TASKS: Final = "{{queue}}: {{kind}}, priority {{priority}}"

OVERVIEW: Final = Board(
    "tenancy-overview",
    "Tenancy: overview",
    (
        Panel("Runs ended, by outcome", "ops", (Query(_rate("tenancy_runs_total", "outcome")),)),
        Panel(
            "Share of attempts that fail, by job",
            "percentunit",
            (Query(f"({_FAILED} or 0 * {_ATTEMPTS}) / {_ATTEMPTS}"),),
        ),
        Panel(
            "Processing time, 95 of 100 attempts, by job",
            "s",
            (Query(_quantile(0.95, "tenancy_activity_seconds", "job")),),
        ),
        Panel(
            "Messages in the outbox, by why they wait",
            "short",
            (Query("max by (reason) (tenancy_outbox_messages)"),),
        ),
        Panel(
            "Rows of imported files, by outcome",
            "ops",
            (Query(_rate("saas_import_rows_total", "outcome")),),
        ),
        Panel(
            "Open dead letters",
            "short",
            (Query("max(sum by (instance) (tenancy_dead_letters_open)) or vector(0)", "open"),),
        ),
        Panel(
            "Workers, by queue and whether they are of the current version",
            "short",
            (
                Query(
                    "max by (queue, current) (tenancy_queue_workers)",
                    "{{queue}}: current {{current}}",
                ),
            ),
        ),
        Panel(
            "Connections in use and sessions that wait",
            "short",
            (
                Query(
                    'sum by (pool, state) (tenancy_database_connections{state!="size"})',
                    "{{pool}}: {{state}}",
                ),
            ),
        ),
        Panel(
            "Processes, by version", "short", (Query("count by (version) (tenancy_process_info)"),)
        ),
        Panel(
            "Processes older than the configuration or migrations in force",
            "short",
            (Query("max by (kind, what) (tenancy_out_of_date_processes)", "{{kind}}: {{what}}"),),
        ),
        Panel(
            "Age of the oldest configuration of a process",
            "s",
            (Query("time() - min(tenancy_process_configured_timestamp_seconds)", "oldest"),),
        ),
    ),
)
TENANT_BOARD: Final = Board(
    "tenancy-tenant",
    "Tenancy: one tenant",
    (
        Panel(
            "Worker seconds a second",
            "short",
            (Query(_WORKER_SECONDS),),
        ),
        Panel(
            "Database seconds a second",
            "short",
            (Query(_rate("tenancy_tenant_database_seconds_total", "tenant", _CHOSEN)),),
        ),
        Panel(
            "Attempts, by outcome",
            "ops",
            (Query(_rate("tenancy_tenant_attempts_total", "outcome", _CHOSEN)),),
        ),
        Panel(
            "Share of all worker seconds",
            "percentunit",
            (
                Query(
                    f"{_WORKER_SECONDS} / "
                    f"scalar(sum(rate(tenancy_tenant_worker_seconds_total{RANGE})))"
                ),
            ),
        ),
    ),
    of_tenant=True,
)
FAN_OUTS: Final = Board(
    "tenancy-fan-outs",
    "Tenancy: fan-outs",
    (
        Panel(
            "Tenants of the latest tick, by job and state",
            "short",
            (Query("max by (job, state) (tenancy_tick_tenants)", "{{job}}: {{state}}"),),
        ),
        Panel(
            "Start after the nominal time, by job",
            "s",
            (Query("max by (job) (tenancy_tick_lag_seconds)"),),
        ),
        Panel(
            "Under way for, by job", "s", (Query("max by (job) (tenancy_tick_running_seconds)"),)
        ),
        Panel(
            "Ticks that never began, by job",
            "short",
            (Query("max by (job) (tenancy_ticks_missed)"),),
        ),
        Panel(
            "Tenants that failed or were not started, by job",
            "short",
            (Query("max by (job) (tenancy_tick_missed_tenants)"),),
        ),
        Panel(
            "Schedules, as the server has them",
            "short",
            (Query("max by (state) (tenancy_schedules)"),),
        ),
        Panel(
            "Runs with activities that wait out a suspension",
            "short",
            (Query("max(tenancy_paused_runs)", "runs"),),
        ),
    ),
)
QUEUES: Final = Board(
    "tenancy-queues",
    "Tenancy: queues and fairness",
    (
        Panel(
            "Tasks that wait, by queue and priority",
            "short",
            (Query("max by (queue, kind, priority) (tenancy_queue_backlog)", _TASKS),),
        ),
        Panel(
            "Age of the oldest task, by queue and priority",
            "s",
            (Query("max by (queue, kind, priority) (tenancy_queue_backlog_age_seconds)", _TASKS),),
        ),
        Panel(
            "Wait for a worker, 99 of 100 activities, by queue",
            "s",
            (
                Query(
                    _quantile(
                        0.99, "temporal_activity_schedule_to_start_latency_seconds", "task_queue"
                    )
                ),
            ),
        ),
        Panel(
            "Slots in use, by queue and kind",
            "short",
            (
                Query(
                    "sum by (task_queue, worker_type) (temporal_worker_task_slots_used)",
                    "{{task_queue}}: {{worker_type}}",
                ),
            ),
        ),
        Panel(
            "Worker seconds a second: the noisiest tenants and all others",
            "short",
            (Query(f"topk(20, {_rate('tenancy_tenant_worker_seconds_total', 'tenant')})"),),
        ),
        Panel(
            "Relay: starts, by outcome",
            "ops",
            (Query(_rate("tenancy_relay_starts_total", "outcome")),),
        ),
        Panel(
            "Relay: from due to started",
            "s",
            (
                Query(_quantile(0.5, "tenancy_relay_lag_seconds"), "half"),
                Query(_quantile(0.99, "tenancy_relay_lag_seconds"), "99 of 100"),
            ),
        ),
        Panel(
            "Relay: duration of a claim, 99 of 100",
            "s",
            (Query(_quantile(0.99, "tenancy_relay_claim_seconds"), "claim"),),
        ),
    ),
)
ISOLATION: Final = Board(
    "tenancy-isolation",
    "Tenancy: isolation",
    (
        Panel(
            "Refused calls, by type",
            "short",
            (Query("sum by (type) (increase(tenancy_refusals_total[10m]))"),),
        ),
        Panel(
            "Refused calls, by place",
            "short",
            (Query("sum by (where) (increase(tenancy_refusals_total[10m]))"),),
        ),
        Panel(
            "Time that sessions held connections, 99 of 100, by pool",
            "s",
            (Query(_quantile(0.99, "tenancy_database_held_seconds", "pool")),),
        ),
        Panel(
            "Sessions that wait for a connection",
            "short",
            (Query('sum by (pool) (tenancy_database_connections{state="waiting"})'),),
        ),
    ),
)

DASHBOARDS: Final = (OVERVIEW, TENANT_BOARD, FAN_OUTS, QUEUES, ISOLATION)


def as_json(board: Board) -> str:
    """Returns the dashboard as Grafana imports it."""
    made = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .tags(["temporal-tenancy"])
        .refresh("30s")
        .time("now-3h", "now")
        .editable()
    )
    if board.of_tenant:
        made = made.with_variable(
            dashboard.QueryVariable("tenant")
            .label("tenant")
            .datasource(SOURCE)
            .query("label_values(tenancy_tenant_worker_seconds_total, tenant)")
        )
    for number, panel in enumerate(board.panels):
        made = made.with_panel(_graph(panel, number))
    return JSONEncoder(sort_keys=True, indent=2).encode(made.build()) + "\n"


def _graph(panel: Panel, number: int) -> timeseries.Panel:
    graph = (
        timeseries.Panel()
        .id(number + 1)
        .title(panel.title)
        .unit(panel.unit)
        .min(0)
        .span(WIDTH)
        .height(HEIGHT)
        .datasource(SOURCE)
    )
    for each, query in enumerate(panel.queries):
        graph = graph.with_target(
            prometheus.Dataquery()
            .expr(query.expression)
            .legend_format(query.legend)
            .ref_id(chr(ord("A") + each))
        )
    return graph
