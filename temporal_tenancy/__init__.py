"""Background jobs for multi-tenant SaaS on Temporal that never lose their tenant silently.

This module exports the whole public interface. `temporal_tenancy.testing` has helpers for tests,
and `temporal_tenancy.control_plane` has the library's own tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from temporal_tenancy.core.lazy_exports import lazy_exports

if TYPE_CHECKING:
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
        KeyInvalid,
        NotAwaited,
        NotDeterministic,
        ScopeMissing,
        StatementRefused,
        TenancyError,
        TenantInvalid,
        TenantMismatch,
        TenantMissing,
        TenantOffboarding,
        TenantSuspended,
        TenantUnknown,
        TooLarge,
        UnknownJob,
    )
    from temporal_tenancy.core.identifiers import (
        TenantId,
        WorkflowId,
        scoped_key,
        tenant_folder,
        tenant_id,
        tenant_of_folder,
    )
    from temporal_tenancy.core.inputs import JobInput, PlatformInput, TenantInput, read_input
    from temporal_tenancy.core.instants import Instant
    from temporal_tenancy.core.jobs import (
        Coalesce,
        Job,
        JobPriority,
        platform_job,
        registry,
        tenant_job,
    )
    from temporal_tenancy.core.periods import Period
    from temporal_tenancy.core.platform_schedules import PlatformSchedule
    from temporal_tenancy.core.scope import (
        PlatformScope,
        Scope,
        TenantScope,
        current_scope,
        current_tenant,
        enter,
    )
    from temporal_tenancy.core.tenant_id_types import declare_tenant_ids
    from temporal_tenancy.everything import TenancyPlugin
    from temporal_tenancy.postgres.database import (
        Database,
        current_database,
        platform_session,
        tenant_session,
        use_database,
    )
    from temporal_tenancy.postgres.pool_share import PoolShare
    from temporal_tenancy.postgres.row_security import protect
    from temporal_tenancy.postgres.session_limits import SessionLimits
    from temporal_tenancy.postgres.sql_directory import SqlTenantDirectory
    from temporal_tenancy.postgres.tenant_owned import TenantOwned, tenant_owned
    from temporal_tenancy.postgres.transactions import tenant_transaction
    from temporal_tenancy.sdk.features import Feature
    from temporal_tenancy.sdk.heartbeats import Heart, heartbeating
    from temporal_tenancy.ticks.fan_out import FanOut, FanOutInput, FanOutResult
    from temporal_tenancy.ticks.schedules import ScheduledJob

__all__ = [
    "CachedDirectory",
    "Coalesce",
    "ConfigurationError",
    "Database",
    "FanOut",
    "FanOutInput",
    "FanOutResult",
    "Feature",
    "FeatureNotEnabled",
    "Heart",
    "HopRefused",
    "Instant",
    "InvalidPayload",
    "Job",
    "JobInput",
    "JobPriority",
    "KeyInvalid",
    "NotAwaited",
    "NotDeterministic",
    "Period",
    "Plan",
    "PlatformInput",
    "PlatformSchedule",
    "PlatformScope",
    "PoolShare",
    "ScheduledJob",
    "Scope",
    "ScopeMissing",
    "SessionLimits",
    "SqlTenantDirectory",
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
    "TooLarge",
    "UnknownJob",
    "WorkflowId",
    "current_database",
    "current_directory",
    "current_scope",
    "current_tenant",
    "current_tenant_record",
    "declare_tenant_ids",
    "enter",
    "heartbeating",
    "platform_activity",
    "platform_job",
    "platform_session",
    "protect",
    "read_input",
    "registry",
    "scoped_key",
    "tenant_activity",
    "tenant_folder",
    "tenant_id",
    "tenant_job",
    "tenant_of_folder",
    "tenant_owned",
    "tenant_session",
    "tenant_transaction",
    "use_database",
]

_WHERE: Final = {
    "CachedDirectory": "core.directory",
    "Coalesce": "core.jobs",
    "ConfigurationError": "core.errors",
    "Database": "postgres.database",
    "FanOut": "ticks.fan_out",
    "FanOutInput": "ticks.fan_out",
    "FanOutResult": "ticks.fan_out",
    "Feature": "sdk.features",
    "FeatureNotEnabled": "core.errors",
    "Heart": "sdk.heartbeats",
    "HopRefused": "core.errors",
    "Instant": "core.instants",
    "InvalidPayload": "core.errors",
    "KeyInvalid": "core.errors",
    "Job": "core.jobs",
    "JobInput": "core.inputs",
    "JobPriority": "core.jobs",
    "NotAwaited": "core.errors",
    "NotDeterministic": "core.errors",
    "Period": "core.periods",
    "Plan": "core.directory",
    "PlatformInput": "core.inputs",
    "PlatformSchedule": "core.platform_schedules",
    "PlatformScope": "core.scope",
    "PoolShare": "postgres.pool_share",
    "ScheduledJob": "ticks.schedules",
    "Scope": "core.scope",
    "ScopeMissing": "core.errors",
    "SessionLimits": "postgres.session_limits",
    "SqlTenantDirectory": "postgres.sql_directory",
    "StatementRefused": "core.errors",
    "TenancyError": "core.errors",
    "TenancyPlugin": "everything",
    "Tenant": "core.directory",
    "TenantDirectory": "core.directory",
    "TenantId": "core.identifiers",
    "TenantInput": "core.inputs",
    "TenantInvalid": "core.errors",
    "TenantMismatch": "core.errors",
    "TenantMissing": "core.errors",
    "TenantOffboarding": "core.errors",
    "TenantOwned": "postgres.tenant_owned",
    "TenantScope": "core.scope",
    "TenantStatus": "core.directory",
    "TenantSuspended": "core.errors",
    "TenantUnknown": "core.errors",
    "TooLarge": "core.errors",
    "UnknownJob": "core.errors",
    "WorkflowId": "core.identifiers",
    "current_database": "postgres.database",
    "current_directory": "core.directory",
    "current_scope": "core.scope",
    "current_tenant": "core.scope",
    "current_tenant_record": "core.directory",
    "declare_tenant_ids": "core.tenant_id_types",
    "enter": "core.scope",
    "heartbeating": "sdk.heartbeats",
    "platform_activity": "core.activities",
    "platform_job": "core.jobs",
    "platform_session": "postgres.database",
    "protect": "postgres.row_security",
    "read_input": "core.inputs",
    "registry": "core.jobs",
    "scoped_key": "core.identifiers",
    "tenant_activity": "core.activities",
    "tenant_folder": "core.identifiers",
    "tenant_id": "core.identifiers",
    "tenant_job": "core.jobs",
    "tenant_of_folder": "core.identifiers",
    "tenant_owned": "postgres.tenant_owned",
    "tenant_session": "postgres.database",
    "tenant_transaction": "postgres.transactions",
    "use_database": "postgres.database",
}

__getattr__, __dir__ = lazy_exports(__name__, _WHERE)
