"""The alerting rules: what is asked, when it wakes somebody, and the page that says what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from temporal_tenancy.dead_letters.alert_words import DEAD_LETTERS, OLD_MESSAGES, AlertWords

RUNBOOKS: Final = "docs/runbooks"
# Before the path of a page, where the external label `runbooks` of Prometheus says where the
# project's tree can be read.
BASE: Final = "{{ with $externalLabels.runbooks }}{{ . }}/{{ end }}"
PROGRAM: Final = "starter.py"  # of the commands in annotations
ISOLATION: Final = "TenantMismatch|ScopeMissing|StatementRefused|StoreMismatch|HopRefused"


@dataclass(frozen=True)
class Rule:
    """One alert: it fires if `query` compares as `condition` says for `lasting`."""

    name: str
    query: str  # PromQL that finds series also while nothing is wrong
    condition: str  # such as "> 1000"
    lasting: str  # how long it must hold, in Prometheus' notation; "0m": at once
    severity: str  # "page" (somebody is woken) or "ticket"
    summary: str  # one sentence; may name labels and the value
    words: AlertWords

    @property
    def expression(self) -> str:
        """The rule's PromQL."""
        return f"({self.query}) {self.condition}"


def _words(title: str, page: str, command: str) -> AlertWords:
    return AlertWords(title, f"{RUNBOOKS}/{page}.md", command)


# What the processes say themselves, and what Temporal knows of workers that do not. Versions count
# within one queue: the Worker Controller of Kubernetes gives each queue's workers others.
SERVING: Final = (
    "tenancy_process_versions or "
    'label_replace(tenancy_queue_versions, "serves", "$1", "queue", "(.+)")'
)
WORKERS: Final = "max by (queue, kind) (sum without (current) (tenancy_queue_workers))"

RULES: Final = (
    Rule(
        "TenancyOutboxDeep",
        'max(sum by (instance) (tenancy_outbox_messages{reason=~"due|retry"}))',
        "> 1000",
        "5m",
        "page",
        "{{ $value }} messages wait in the outbox that nothing holds back.",
        _words("Many messages wait in the outbox", "outbox-deep", "outbox list"),
    ),
    Rule(
        "TenancyDeadLetterOpen",
        "max(tenancy_dead_letters_oldest_seconds)",
        "> 0",
        "1m",
        "ticket",
        "A job has failed permanently, and waits for a person.",
        DEAD_LETTERS,
    ),
    Rule(
        "TenancyCriticalSlow",
        "histogram_quantile(0.99, sum by (le) (rate("
        'temporal_activity_schedule_to_start_latency_seconds_bucket{task_queue="critical"}[5m])))',
        "> 0.2",
        "5m",
        "page",
        "1 in 100 activities of the queue critical waits {{ $value | humanizeDuration }} or more "
        "for a worker.",
        _words("Activities of the queue critical wait for a worker", "critical-slow", "top"),
    ),
    Rule(
        "TenancyTickMissed",
        "max by (job) (tenancy_ticks_missed)",
        "> 0",
        "0m",
        "page",
        "{{ $value }} ticks of {{ $labels.job }} were due and never began.",
        _words("A tick never began", "tick-missed", "ticks missed"),
    ),
    Rule(
        "TenancyIsolationRefused",
        f'sum by (type, where) (increase(tenancy_refusals_total{{type=~"{ISOLATION}"}}[10m]))',
        "> 0",
        "0m",
        "page",
        "Something tried to cross tenants, and was refused: {{ $labels.type }}, where: "
        "{{ $labels.where }}.",
        _words("A call across tenants was refused", "isolation-refused", "doctor"),
    ),
    Rule(
        "TenancyRelayLag",
        "max(tenancy_outbox_oldest_due_seconds)",
        "> 60",
        "2m",
        "page",
        "The oldest message that nothing holds back has been due for "
        "{{ $value | humanizeDuration }}.",
        OLD_MESSAGES,
    ),
    Rule(
        "TenancyWorkerGone",
        WORKERS,
        "< 1",
        "3m",
        "page",
        "No worker polls the queue {{ $labels.queue }} for {{ $labels.kind }} tasks.",
        _words("A queue has no worker", "worker-gone", "doctor"),
    ),
    Rule(
        "TenancyCurrentVersionGone",
        f'max by (queue, kind) (tenancy_queue_workers{{current="yes"}}) and ({WORKERS} > 0)',
        "< 1",
        "3m",
        "page",
        "No worker of the current version polls the queue {{ $labels.queue }} for "
        "{{ $labels.kind }} tasks: new runs wait.",
        _words(
            "A queue has no worker of the current version",
            "current-version-gone",
            "deployments list",
        ),
    ),
    Rule(
        "TenancyRelayGone",
        'count(time() - tenancy_collected_timestamp_seconds{source="outbox"} < 120) or vector(0)',
        "< 1",
        "3m",
        "page",
        "No relay has read the outbox for two minutes.",
        _words("No relay reads the outbox", "relay-gone", "doctor"),
    ),
    Rule(
        "TenancyVersionSkew",
        f"max by (serves) ({SERVING})",
        "> 1",
        "30m",
        "ticket",
        "{{ $value }} versions of the code have served {{ $labels.serves }} side by side for half "
        "an hour.",
        _words("Several versions run side by side", "version-skew", "top"),
    ),
    Rule(
        "TenancyProcessOutOfDate",
        "max by (kind, what) (tenancy_out_of_date_processes)",
        "> 0",
        "15m",
        "ticket",
        "{{ $value }} processes ({{ $labels.kind }}) are older than the {{ $labels.what }} in "
        "force.",
        _words("A process is out of date", "process-out-of-date", "doctor"),
    ),
    Rule(
        "TenancyCollectedInPart",
        "max by (source) (tenancy_collected_in_part)",
        "> 0",
        "15m",
        "ticket",
        "The {{ $labels.source }} has more than could be read: counts are too low, or count what "
        "is held back as due.",
        _words("A gauge is collected in part", "collected-in-part", "outbox list"),
    ),
)


def as_group(rules: Sequence[Rule]) -> dict[str, Any]:
    """Returns the rules as Prometheus reads them, before they are written as YAML."""
    return {
        "groups": [
            {
                "name": "tenancy",
                "rules": [
                    {
                        "alert": rule.name,
                        "expr": rule.expression,
                        "for": rule.lasting,
                        "labels": {"severity": rule.severity},
                        "annotations": {
                            "title": rule.words.title,
                            "summary": rule.summary,
                            "runbook": f"{BASE}{rule.words.runbook}",
                            "command": f"{PROGRAM} {rule.words.command}",
                        },
                    }
                    for rule in rules
                ],
            }
        ]
    }
