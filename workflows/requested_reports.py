"""The job that makes a requested report."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field
from temporalio import workflow

from activities.requested_reports import (
    ID_MAX_CHARACTERS,
    MadeReport,
    MakeReport,
    make_report,
)
from saas.queues import Queue
from saas.requests.reports import JOB
from temporal_tenancy import TenantInput, tenant_job
from workflows.failed_requests import failure_noted
from workflows.retries import DATABASE_RETRIES, HEARTBEAT_TIMEOUT


class GenerateReportInput(TenantInput):
    """The report to make."""

    report_id: str = Field(max_length=ID_MAX_CHARACTERS)  # a malformed id is `ReportNotFound` too


@tenant_job(
    JOB,
    queue=Queue.DEFAULT,
    feature="reports",
    execution_timeout=timedelta(hours=2),
)
class GenerateReport:
    """Makes a requested report."""

    @workflow.run
    async def run(self, job: GenerateReportInput) -> MadeReport:
        """Returns where the report is, whether it is new or existed before."""
        async with failure_noted("report", job.report_id):
            return await workflow.execute_activity(
                make_report,
                MakeReport(report_id=job.report_id),
                start_to_close_timeout=timedelta(minutes=5),
                heartbeat_timeout=HEARTBEAT_TIMEOUT,
                retry_policy=DATABASE_RETRIES,
            )
