"""Whether a tenant may run a job now, and the error if it may not."""

from __future__ import annotations

from temporal_tenancy.core.directory import Tenant, TenantStatus, require_record
from temporal_tenancy.core.errors import (
    FeatureNotEnabled,
    TenancyError,
    TenantInvalid,
    TenantOffboarding,
    TenantSuspended,
    TenantUnknown,
)
from temporal_tenancy.core.identifiers import require_canonical
from temporal_tenancy.core.jobs import Job


def refusal(tenant: Tenant, job: Job) -> TenancyError | None:
    """Returns the error for running `job` in `tenant` now, or None if it may run."""
    try:
        require_canonical(tenant.id)
    except TenantInvalid as error:
        return error
    if tenant.status not in job.statuses:
        if tenant.status is TenantStatus.SUSPENDED:
            return TenantSuspended(
                f"{tenant.id} is suspended{tenant.since}. Resume it to run its jobs."
            )
        if tenant.status in (TenantStatus.OFFBOARDING, TenantStatus.DELETED):
            status = "being offboarded" if tenant.status is TenantStatus.OFFBOARDING else "deleted"
            return TenantOffboarding(
                f"{tenant.id} is {status}{tenant.since}, and "
                f"{job.name} does not run for such a tenant."
            )
        allowed = ", ".join(sorted(job.statuses))
        return TenantSuspended(
            f"{tenant.id} is {tenant.status}, and {job.name} runs only "
            f"for tenants that are {allowed}."
        )
    if job.feature and not tenant.has_feature(job.feature):
        return FeatureNotEnabled(
            f"{job.name} needs the feature {job.feature!r}, which {tenant.id} does not have on "
            f"the plan {tenant.plan.id!r}. Change its plan, or add the feature to the tenant."
        )
    return None


def waits(tenant: Tenant, job: Job) -> bool:
    """Returns whether a run of `job` waits for `tenant` to be resumed instead of failing."""
    return (
        job.waits_out_suspension
        and tenant.status is TenantStatus.SUSPENDED
        and TenantStatus.SUSPENDED not in job.statuses
    )


def unknown(tenant_id: str) -> TenantUnknown:
    """Returns the error for a tenant that is not in the directory."""
    return TenantUnknown(f"there is no tenant {tenant_id}. Add it or correct the id.")


def require_runnable(tenant_id: str, tenant: Tenant | None, job: Job) -> Tenant:
    """Returns the tenant if it may run `job` now.

    Raises:
        TenantUnknown: `tenant` is None, or has another id.
        TenantInvalid: the id is not the canonical spelling of the declared type.
        TenantSuspended: its status does not allow the job, now or at all.
        TenantOffboarding: it is leaving or deleted, and the job does not run then.
        FeatureNotEnabled: neither its plan nor the tenant itself has the job's feature.
    """
    if tenant is None or _is_another(require_record(tenant), tenant_id):
        raise unknown(tenant_id)
    refused = refusal(tenant, job)
    if refused is not None:
        raise refused
    return tenant


def _is_another(tenant: Tenant, tenant_id: str) -> bool:
    """Whether the directory has answered with a tenant that was not asked for."""
    return tenant.id != tenant_id


def require_startable(tenant_id: str, tenant: Tenant | None, job: Job) -> Tenant:
    """Like `require_runnable`, but accepts a suspended tenant if the run would wait for it."""
    if (
        tenant is not None
        and not _is_another(require_record(tenant), tenant_id)
        and waits(tenant, job)
    ):
        return tenant
    return require_runnable(tenant_id, tenant, job)
