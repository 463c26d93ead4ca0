"""Why a tenant was missed by a tick, in words that are still true."""

from __future__ import annotations

from temporal_tenancy.cli.program import with_hint
from temporal_tenancy.control_plane.tables import LedgerState
from temporal_tenancy.ticks.reconcile.missed import Missed


def reason_then(missed: Missed) -> str | None:
    """Returns why a tenant was missed; None if nobody recorded it.

    Who is missed may run by now, so for a skipped tenant there is no advice: what kept it from
    running is over.
    """
    if missed.reason is None or missed.state != LedgerState.SKIPPED:
        return missed.reason and with_hint(missed.reason)
    return f"skipped then: {missed.reason.removeprefix('was skipped: ')}"
