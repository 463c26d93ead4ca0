"""Maps a child's failure to the tenant's outcome in the ledger."""

from __future__ import annotations

from typing import Final

from temporal_tenancy.control_plane.tables import LedgerState
from temporal_tenancy.core.errors import (
    FeatureNotEnabled,
    SchemaBehind,
    TenantOffboarding,
    TenantSuspended,
)
from temporal_tenancy.core.failures import root_cause, sentence_of, storable, type_of
from temporal_tenancy.ticks.fan_out.payloads import TenantOutcome

# The tenant was not allowed to run when its turn came, which is not a failure.
SKIPPING: Final = frozenset(
    error.__name__
    for error in (TenantSuspended, TenantOffboarding, FeatureNotEnabled, SchemaBehind)
)


def outcome_of_failure(
    tenant_id: str, error: BaseException, *, workflow_id: str, run_id: str | None
) -> TenantOutcome:
    """Returns the outcome of a child that ended with `error`: skipped or failed, with the reason.

    `run_id` is None if the child never started.
    """
    cause = root_cause(error)
    error_type = type_of(cause)
    skipped = error_type in SKIPPING
    return TenantOutcome(
        tenant_id=tenant_id,
        state=LedgerState.SKIPPED if skipped else LedgerState.FAILED,
        reason=storable(sentence_of(cause)),
        error_type=storable(error_type),
        workflow_id=workflow_id,
        run_id=run_id,
    )
