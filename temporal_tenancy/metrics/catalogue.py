"""The library's metrics: name, type, labels and meaning of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

# Seconds.
SHORT: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
LONG: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 900, 3600, 14400, 86400)

OTHER: Final = "other"
"""The value of a label whose values are bounded, for all that have none of their own."""

Labels = tuple[str, ...]  # values, in the instrument's order


@dataclass(frozen=True)
class Instrument:
    """One metric."""

    name: str  # a counter's without the `_total` that it is scraped with
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()  # upper bounds of a histogram, without infinity
    source: str = ""  # what a relay asks for it; empty: the process knows it itself

    @property
    def scraped(self) -> str:
        """The name of its series; a histogram's has `_bucket`, `_sum` and `_count` behind it."""
        return f"{self.name}_total" if self.kind == "counter" else self.name


# Of every process, from what it does.
PROCESS: Final = Instrument(
    "tenancy_process_info", "gauge", "1, with the version of the code that the process runs.",
    ("version",),
)  # fmt: skip
CONFIGURED: Final = Instrument(
    "tenancy_process_configured_timestamp_seconds", "gauge",
    "When the process read its configuration, in Unix time, with a digest of it.",
    ("configuration",),
)  # fmt: skip
ATTEMPTS: Final = Instrument(
    "tenancy_activity_attempts", "counter", "Attempts of activities that have ended.",
    ("job", "queue", "plan", "outcome"),
)  # fmt: skip
ATTEMPT_SECONDS: Final = Instrument(
    "tenancy_activity_seconds", "histogram", "Time of an attempt in its slot.",
    ("job", "queue"), LONG,
)  # fmt: skip
RUNS: Final = Instrument(
    "tenancy_runs", "counter", "Runs of jobs that have ended here.", ("job", "queue", "outcome")
)
RUN_SECONDS: Final = Instrument(
    "tenancy_run_seconds", "histogram", "Time from a run's start to its end.",
    ("job", "queue"), LONG,
)  # fmt: skip
REFUSALS: Final = Instrument(
    "tenancy_refusals", "counter", "Calls that a rule of tenancy refused.", ("type", "where")
)
WORKER_SECONDS: Final = Instrument(
    "tenancy_tenant_worker_seconds", "counter",
    "Time of attempts in their slots, of the noisiest tenants and of all others.", ("tenant",),
)  # fmt: skip
DATABASE_SECONDS: Final = Instrument(
    "tenancy_tenant_database_seconds", "counter",
    "Time that sessions held connections, of the noisiest tenants and of all others.", ("tenant",),
)  # fmt: skip
TENANT_ATTEMPTS: Final = Instrument(
    "tenancy_tenant_attempts", "counter",
    "Attempts of activities, of the noisiest tenants and of all others.", ("tenant", "outcome"),
)  # fmt: skip
CONNECTIONS: Final = Instrument(
    "tenancy_database_connections", "gauge",
    "Connections of a pool: its size, those in use and open, and the sessions that wait.",
    ("pool", "state"),
)  # fmt: skip
HELD_SECONDS: Final = Instrument(
    "tenancy_database_held_seconds", "histogram", "Time that a session held a connection.",
    ("pool",), SHORT,
)  # fmt: skip
# Of a relay, from what it does.
CLAIM_SECONDS: Final = Instrument(
    "tenancy_relay_claim_seconds", "histogram", "Time that the statements of a claim took.",
    (), SHORT,
)  # fmt: skip
CLAIMED: Final = Instrument(
    "tenancy_relay_claimed_messages", "counter", "Messages that claims have returned."
)
STARTS: Final = Instrument(
    "tenancy_relay_starts", "counter", "Tries to start a message's workflow.", ("job", "outcome")
)
LAG_SECONDS: Final = Instrument(
    "tenancy_relay_lag_seconds", "histogram",
    "Time from when a message became due to the end of the first try to start its workflow.",
    (), LONG,
)  # fmt: skip
# Of a relay, which asks the database and Temporal.
MESSAGES: Final = Instrument(
    "tenancy_outbox_messages",
    "gauge",
    "Messages in the outbox, by why they wait.",
    ("reason",),
    source="outbox",
)
OLDEST_DUE: Final = Instrument(
    "tenancy_outbox_oldest_due_seconds", "gauge",
    "How long the oldest message has been due that nothing holds back.",
    source="outbox",
)  # fmt: skip
STORES: Final = Instrument(
    "tenancy_outbox_stores", "gauge",
    "Tenants' own databases whose outboxes a relay visits, by whether they answer it.",
    ("state",),
    source="outbox",
)  # fmt: skip
LETTERS: Final = Instrument(
    "tenancy_dead_letters_open",
    "gauge",
    "Dead letters that wait for a person.",
    ("job",),
    source="outbox",
)
OLDEST_LETTER: Final = Instrument(
    "tenancy_dead_letters_oldest_seconds",
    "gauge",
    "Age of the oldest open dead letter.",
    source="outbox",
)
TICK_TENANTS: Final = Instrument(
    "tenancy_tick_tenants",
    "gauge",
    "Tenants of a job's latest tick, by state.",
    ("job", "state"),
    source="ledger",
)
TICK_LAG: Final = Instrument(
    "tenancy_tick_lag_seconds", "gauge",
    "Time from the latest tick's nominal time to the start of its fan-out.", ("job",),
    source="ledger",
)  # fmt: skip
TICK_RUNNING: Final = Instrument(
    "tenancy_tick_running_seconds", "gauge",
    "Time since the start of the latest tick's fan-out; 0 once it has ended.", ("job",),
    source="ledger",
)  # fmt: skip
TICKS_MISSED: Final = Instrument(
    "tenancy_ticks_missed", "gauge",
    "Ticks of the last seven days that were due and never began.", ("job",),
    source="ledger",
)  # fmt: skip
TENANTS_MISSED: Final = Instrument(
    "tenancy_tick_missed_tenants", "gauge",
    "Tenants that failed or were not started in ended ticks of the last seven days.", ("job",),
    source="ledger",
)  # fmt: skip
BACKLOG: Final = Instrument(
    "tenancy_queue_backlog", "gauge", "Tasks that wait in a task queue, about.",
    ("queue", "kind", "priority"),
    source="temporal",
)  # fmt: skip
BACKLOG_AGE: Final = Instrument(
    "tenancy_queue_backlog_age_seconds", "gauge", "Age of the task queue's oldest waiting task.",
    ("queue", "kind", "priority"),
    source="temporal",
)  # fmt: skip
POLLERS: Final = Instrument(
    "tenancy_queue_workers", "gauge",
    "Workers that have polled a task queue in the last minute, by whether they are of the version "
    "that new runs start on.",
    ("queue", "kind", "current"),
    source="temporal",
)  # fmt: skip
VERSIONS: Final = Instrument(
    "tenancy_queue_versions", "gauge",
    "Versions of the code among the workers of a task queue.", ("queue",),
    source="temporal",
)  # fmt: skip
PAUSED: Final = Instrument(
    "tenancy_paused_runs",
    "gauge",
    "Running workflows that have paused activities.",
    source="temporal",
)
SCHEDULES: Final = Instrument(
    "tenancy_schedules", "gauge", "Schedules, by how the server's compare with the declared ones.",
    ("state",),
    source="schedules",
)  # fmt: skip
OUT_OF_DATE: Final = Instrument(
    "tenancy_out_of_date_processes", "gauge",
    "Processes that are older than the configuration or the migrations in force.",
    ("kind", "what"),
    source="processes",
)  # fmt: skip
PROCESS_VERSIONS: Final = Instrument(
    "tenancy_process_versions", "gauge",
    "Versions of the code among the processes that serve the same.", ("kind", "serves"),
    source="processes",
)  # fmt: skip
COLLECTED: Final = Instrument(
    "tenancy_collected_timestamp_seconds", "gauge",
    "When the gauges of a source were last collected, in Unix time.", ("source",),
)  # fmt: skip
COLLECT_FAILURES: Final = Instrument(
    "tenancy_collect_failures", "counter", "Failed collections from a source.", ("source",)
)
IN_PART: Final = Instrument(
    "tenancy_collected_in_part", "gauge",
    "1 while a source was read in part: it has more rows than are counted, or the time was up.",
    ("source",),
    source="outbox",
)  # fmt: skip

CATALOGUE: Final = (
    *(PROCESS, CONFIGURED, ATTEMPTS, ATTEMPT_SECONDS, RUNS, RUN_SECONDS, REFUSALS),
    *(WORKER_SECONDS, DATABASE_SECONDS, TENANT_ATTEMPTS, CONNECTIONS, HELD_SECONDS),
    *(CLAIM_SECONDS, CLAIMED, STARTS, LAG_SECONDS),
    *(MESSAGES, OLDEST_DUE, STORES, LETTERS, OLDEST_LETTER),
    *(TICK_TENANTS, TICK_LAG, TICK_RUNNING, TICKS_MISSED, TENANTS_MISSED),
    *(BACKLOG, BACKLOG_AGE, POLLERS, VERSIONS, PAUSED, SCHEDULES),
    *(OUT_OF_DATE, PROCESS_VERSIONS),
    *(COLLECTED, COLLECT_FAILURES, IN_PART),
)
"""Every metric of the library, in the order of the documentation."""
