"""The jobs. A new job is one more name in `WORKFLOWS`."""

from __future__ import annotations

from typing import Any

WORKFLOWS: list[type]


def __getattr__(name: str) -> Any:  # a module's attributes are of any type
    # Imported on first access: the sandbox imports this package again for each run, and a run
    # needs only its own module.
    if name != "WORKFLOWS":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # The library's own jobs, which the schedules start.
    from temporal_tenancy.dead_letters import SweepDeadLetters  # noqa: F401
    from temporal_tenancy.outbox import outbox  # noqa: F401
    from temporal_tenancy.ticks.reconcile import ReconcileTicks  # noqa: F401
    from workflows.analytics import AggregateAnalytics
    from workflows.audit import AggregateAuditLog
    from workflows.billing import BillingCycle
    from workflows.cleanup import CleanUpExpired
    from workflows.exports import GenerateExport
    from workflows.imports import ImportContacts
    from workflows.integrations import SyncIntegration
    from workflows.mail import SendEmail
    from workflows.notifications import SendNotification
    from workflows.payments import PaymentWebhook
    from workflows.reports import ReportDaily
    from workflows.requested_reports import GenerateReport
    from workflows.retention import EnforceRetention
    from workflows.search import IndexForSearch, ReindexForSearch
    from workflows.trials import ExpireTrial

    return [
        BillingCycle,
        AggregateAnalytics,
        EnforceRetention,
        CleanUpExpired,
        ExpireTrial,
        ReportDaily,
        AggregateAuditLog,
        SendEmail,
        SendNotification,
        PaymentWebhook,
        ImportContacts,
        GenerateExport,
        GenerateReport,
        SyncIntegration,
        IndexForSearch,
        ReindexForSearch,
    ]
