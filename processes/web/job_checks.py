"""Checks a requested job before its message is written, so that none fails for a wrong id.

A job that fails for good waits for an operator. A wrong id or period is the caller's to correct.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from activities.search import is_known
from processes.web.paging import identified
from processes.web.refusals import (
    ExportUnknown,
    IntegrationUnknown,
    InvalidRequest,
    ItemUnknown,
    ReportUnknown,
)
from saas.periods import end_of
from saas.requests import exports, integrations, reports
from temporal_tenancy import Job, Tenant


async def refuse_what_cannot_be_done(
    session: AsyncSession,
    tenant: Tenant,
    job: Job,
    fields: Mapping[str, Any],  # JSON
    *,
    key: str | None,
    at: datetime | None,
) -> None:
    """Raises for a request whose job would fail, or would be made too early.

    `session` is the tenant's. An input that does not fit the job is left to `request_job`,
    which says what is wrong with it.

    Raises:
        WebRefusal: the input names something that the tenant does not have, or a period that is
            not over by the job's start.
        CredentialMissing: an integration has no credential.
    """
    if job.period is not None:
        period = fields.get("period", key)
        if isinstance(period, str) and job.period.is_key(period):
            _refuse_before_end(tenant, job, period, at)
    check = _CHECKS.get(job.name)
    if check is None or fields.get("tenant_id", tenant.id) != tenant.id:
        return
    try:
        model = job.input_model.model_validate({**fields, "tenant_id": tenant.id}, extra="forbid")
    except ValidationError:
        return
    await check(session, model)


def _refuse_before_end(tenant: Tenant, job: Job, period: str, at: datetime | None) -> None:
    """Raises `InvalidRequest` if the period may still get events when the job starts.

    The job would fail or, as a period succeeds once, keep its final numbers from being counted.
    """
    assert job.period is not None
    end = end_of(job.period, period, tenant.time_zone)
    now = datetime.now(UTC)
    if end > (now if at is None else max(at, now)):
        when = end.astimezone(UTC).strftime("%Y-%m-%d %H:%MZ")
        raise InvalidRequest(
            f"{period} is not over in {tenant.time_zone}. Request {job.name} after {when}, or give "
            'such a time as "at".'
        )


async def _export(session: AsyncSession, job_input: Any) -> None:  # of the job's input model
    try:
        await exports.find_export(session, job_input.export_id)
    except exports.ExportNotFound:
        raise ExportUnknown from None


async def _report(session: AsyncSession, job_input: Any) -> None:
    try:
        await reports.find_report(session, identified(job_input.report_id, ReportUnknown))
    except reports.ReportNotFound:
        raise ReportUnknown from None


async def _integration(session: AsyncSession, job_input: Any) -> None:
    try:
        found = await integrations.find_integration_by_id(session, job_input.integration_id)
    except integrations.IntegrationNotFound:
        raise IntegrationUnknown from None
    await integrations.require_credential(found)


async def _item(session: AsyncSession, job_input: Any) -> None:
    if not await is_known(session, job_input.kind, job_input.ref):
        raise ItemUnknown


_CHECKS: Final[Mapping[str, Callable[[AsyncSession, Any], Awaitable[None]]]] = {
    exports.JOB: _export,
    reports.JOB: _report,
    integrations.JOB: _integration,
    "search.index": _item,
}
"""What the input of a job must name; each takes the tenant's session and the input."""
