"""The tenant that a transaction was begun for, and its limits."""

from __future__ import annotations

from dataclasses import dataclass

from temporal_tenancy.core.errors import TenantMismatch
from temporal_tenancy.core.scope import current_tenant
from temporal_tenancy.postgres._transaction_clock import TransactionClock
from temporal_tenancy.postgres._transaction_times import TransactionTimes


@dataclass(frozen=True)
class TransactionStamp:
    """What a connection knows of its transaction until that ends."""

    tenant_id: str
    clock: TransactionClock | None  # when it has run out, the transaction takes no statement
    times: TransactionTimes  # tell why the server closed the connection
    store: str | None  # its name; None: the shared one

    def require_tenant(self) -> None:
        """Raises unless a statement may be sent: the scope is the tenant's, and there is time."""
        self.require_scope()
        self._require_time()

    def require_scope(self) -> None:
        """Raises unless the scope is the tenant's."""
        tenant = current_tenant()
        if self.tenant_id != tenant:
            raise TenantMismatch(
                f'this session belongs to tenant "{self.tenant_id}", but the current scope is '
                f'"{tenant}". Open a tenant_session() inside the new scope.'
            )

    def require_tenant_at_commit(self) -> None:
        """Raises unless the transaction may commit."""
        tenant = current_tenant()
        if self.tenant_id != tenant:
            raise TenantMismatch(
                f'this transaction belongs to tenant "{self.tenant_id}", but the current scope '
                f'is "{tenant}". It was rolled back.'
            )
        self._require_time()

    def _require_time(self) -> None:
        if self.clock is not None:
            self.clock.check()
