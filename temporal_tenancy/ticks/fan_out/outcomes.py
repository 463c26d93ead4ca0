"""What a child's failure means for the ledger."""

from __future__ import annotations

from typing import Final

from temporal_tenancy.control_plane.models import LedgerState
from temporal_tenancy.core.errors import FeatureNotEnabled, TenantOffboarding, TenantSuspended
from temporal_tenancy.core.failures import root_cause, sentence_of, storable, type_of
from temporal_tenancy.ticks.fan_out.models import Outcome

# The tenant could not run any more when its turn came: no failure, and no one's fault.
SKIPPING: Final = frozenset(
    error.__name__ for error in (TenantSuspended, TenantOffboarding, FeatureNotEnabled)
)


def outcome_of_failure(
    tenant_id: str, error: BaseException, *, workflow_id: str, run_id: str | None
) -> Outcome:
    """The outcome of a child that ended with `error`: skipped or failed, and why."""
    cause = root_cause(error)
    error_type = type_of(cause)
    skipped = error_type in SKIPPING
    return Outcome(
        tenant_id=tenant_id,
        state=LedgerState.SKIPPED if skipped else LedgerState.FAILED,
        reason=storable(sentence_of(cause)),
        error_type=storable(error_type),
        workflow_id=workflow_id,
        run_id=run_id,
    )
