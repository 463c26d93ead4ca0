"""Whether a tenant may run a job now, and the sentence that says why not."""

from __future__ import annotations

from temporal_tenancy.core.directory import Tenant, TenantStatus
from temporal_tenancy.core.errors import (
    FeatureNotEnabled,
    TenancyError,
    TenantOffboarding,
    TenantSuspended,
    TenantUnknown,
)
from temporal_tenancy.core.jobs import Job


def refusal(tenant: Tenant, job: Job) -> TenancyError | None:
    """Why `tenant` may not run `job` now; None when it may."""
    since = tenant.status_since.date().isoformat()
    if tenant.status not in job.statuses:
        if tenant.status is TenantStatus.SUSPENDED:
            return TenantSuspended(
                f"{tenant.id} is suspended since {since}. Resume it to run its jobs."
            )
        if tenant.status in (TenantStatus.OFFBOARDING, TenantStatus.DELETED):
            word = "being offboarded" if tenant.status is TenantStatus.OFFBOARDING else "deleted"
            return TenantOffboarding(
                f"{tenant.id} is {word} since {since}, and "
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
    """Whether a run of `job` waits until `tenant` is resumed, where another would be refused."""
    return (
        job.waits_out_suspension
        and tenant.status is TenantStatus.SUSPENDED
        and TenantStatus.SUSPENDED not in job.statuses
    )


def unknown(tenant_id: str) -> TenantUnknown:
    """The refusal of a tenant that the directory does not have."""
    return TenantUnknown(f"there is no tenant {tenant_id}. Add it, or correct its id.")


def require_runnable(tenant_id: str, tenant: Tenant | None, job: Job) -> Tenant:
    """Returns the tenant when it may run `job` now; raises the refusal otherwise."""
    if tenant is None:
        raise unknown(tenant_id)
    refused = refusal(tenant, job)
    if refused is not None:
        raise refused
    return tenant


def require_startable(tenant_id: str, tenant: Tenant | None, job: Job) -> Tenant:
    """As `require_runnable`, but a run that would wait out a suspension may be started in one."""
    if tenant is not None and waits(tenant, job):
        return tenant
    return require_runnable(tenant_id, tenant, job)
