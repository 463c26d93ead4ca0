"""The effects of the jobs. A new activity is one more name in `ACTIVITIES`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

ACTIVITIES: list[Callable[..., Any]]


def __getattr__(name: str) -> Any:  # a module's attributes are of any type
    # Imported on first access: only a worker needs them all. It also loads what their declarations
    # do without, so that no job waits for it.
    if name != "ACTIVITIES":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import aiosmtplib  # noqa: F401

    import saas.services.outgoing_http
    import saas.services.parquet_files  # noqa: F401
    from activities.analytics import aggregate_usage
    from activities.audit import aggregate_audit
    from activities.billing import issue_invoice
    from activities.cleanup import Cleanup
    from activities.exports import Exports
    from activities.failed_requests import note_failure
    from activities.imports import Imports, finish_import
    from activities.integrations import sync_page
    from activities.mail import send_mail
    from activities.notifications import write_notification
    from activities.payments import apply_payment_event
    from activities.reports import make_daily_report
    from activities.requested_reports import make_report
    from activities.retention import Retention, find_cutoff
    from activities.search import index_document, index_page
    from activities.trials import end_trial, look_at_trial, note_trial_end

    activities: list[Callable[..., Any]] = [
        issue_invoice,
        aggregate_usage,
        find_cutoff,
        Retention().delete_usage,
        Cleanup().delete_expired,
        look_at_trial,
        end_trial,
        note_trial_end,
        make_daily_report,
        aggregate_audit,
        send_mail,
        write_notification,
        apply_payment_event,
        Imports().import_slice,
        finish_import,
        Exports().write_export,
        make_report,
        sync_page,
        index_document,
        index_page,
        note_failure,
    ]
    globals()[name] = activities  # one list: some activities are methods of an instance
    return activities
