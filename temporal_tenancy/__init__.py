"""Background jobs for multi-tenant SaaS on Temporal, in which no tenant is lost in silence.

This is the whole public surface; `temporal_tenancy.testing` is a kit for tests, and
`temporal_tenancy.control_plane` has the library's own tables.
"""

from __future__ import annotations

from temporal_tenancy.core.activities import platform_activity, tenant_activity
from temporal_tenancy.core.directory import (
    CachedDirectory,
    Plan,
    Tenant,
    TenantDirectory,
    TenantStatus,
    current_directory,
    current_tenant_record,
)
from temporal_tenancy.core.errors import (
    ConfigurationError,
    FeatureNotEnabled,
    HopRefused,
    InvalidPayload,
    ScopeMissing,
    StatementRefused,
    TenancyError,
    TenantInvalid,
    TenantMismatch,
    TenantMissing,
    TenantOffboarding,
    TenantSuspended,
    TenantUnknown,
    UnknownJob,
)
from temporal_tenancy.core.identifiers import TenantId, WorkflowId, scoped_key
from temporal_tenancy.core.inputs import JobInput, PlatformInput, TenantInput, read_input
from temporal_tenancy.core.jobs import Job, JobPriority, platform_job, registry, tenant_job
from temporal_tenancy.core.periods import Period
from temporal_tenancy.core.scope import (
    PlatformScope,
    Scope,
    TenantScope,
    current_scope,
    current_tenant,
    enter,
)
from temporal_tenancy.everything import TenancyPlugin
from temporal_tenancy.postgres.database import (
    Database,
    current_database,
    platform_session,
    tenant_session,
    use_database,
)
from temporal_tenancy.postgres.pool_share import PoolShare
from temporal_tenancy.postgres.session_limits import SessionLimits
from temporal_tenancy.postgres.tenant_owned import TenantOwned
from temporal_tenancy.ticks.fan_out import FanOut, FanOutInput, FanOutResult
from temporal_tenancy.ticks.schedules import ScheduledJob

__all__ = [
    "CachedDirectory",
    "ConfigurationError",
    "Database",
    "FanOut",
    "FanOutInput",
    "FanOutResult",
    "FeatureNotEnabled",
    "HopRefused",
    "InvalidPayload",
    "Job",
    "JobInput",
    "JobPriority",
    "Period",
    "Plan",
    "PlatformInput",
    "PlatformScope",
    "PoolShare",
    "ScheduledJob",
    "Scope",
    "ScopeMissing",
    "SessionLimits",
    "StatementRefused",
    "TenancyError",
    "TenancyPlugin",
    "Tenant",
    "TenantDirectory",
    "TenantId",
    "TenantInput",
    "TenantInvalid",
    "TenantMismatch",
    "TenantMissing",
    "TenantOffboarding",
    "TenantOwned",
    "TenantScope",
    "TenantStatus",
    "TenantSuspended",
    "TenantUnknown",
    "UnknownJob",
    "WorkflowId",
    "current_database",
    "current_directory",
    "current_scope",
    "current_tenant",
    "current_tenant_record",
    "enter",
    "platform_activity",
    "platform_job",
    "platform_session",
    "read_input",
    "registry",
    "scoped_key",
    "tenant_activity",
    "tenant_job",
    "tenant_session",
    "use_database",
]
