"""The job that makes the daily report."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow

from activities.days import Day
from activities.reports import DailyReport, MakeDailyReport, make_daily_report
from saas.queues import Queue
from temporal_tenancy import Period, TenantInput, tenant_job
from temporal_tenancy.core import number
from workflows.retries import DATABASE_RETRIES, HEARTBEAT_TIMEOUT


class ReportDailyInput(TenantInput):
    """The day to report on, in the tenant's time zone."""

    period: Day


@tenant_job(
    "report.daily",
    queue=Queue.DEFAULT,
    feature="reports",
    period=Period.DAY,
    execution_timeout=timedelta(hours=2),
)
class ReportDaily:
    """Makes the report on a day's usage."""

    @workflow.run
    async def run(self, job: ReportDailyInput) -> DailyReport:
        """Returns the day's report, whether it is new or existed before."""
        report = await workflow.execute_activity(
            make_daily_report,
            MakeDailyReport(period=job.period),
            start_to_close_timeout=timedelta(minutes=5),
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=DATABASE_RETRIES,
        )
        workflow.set_current_details(
            f"{job.tenant_id} had {number(report.events, 'usage event')} on {report.period}, "
            f"{report.cancelled:,} of them cancelled."
        )
        return report
