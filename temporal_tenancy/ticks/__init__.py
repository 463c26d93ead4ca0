"""Scheduled jobs that run for every tenant: schedules, fan-outs, the ledger, reconciling."""

from __future__ import annotations

from temporal_tenancy.core.lazy_exports import require_installed

require_installed(__name__, "sqlalchemy", "psycopg")
