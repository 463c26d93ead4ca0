"""What was used are numbers, and a tenant's open dead letters are found by an index."""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"

_SUMS = ("worker_seconds", "database_seconds", "attempts", "workflows")
_MOST = 1_000_000_000_000_000


def upgrade() -> None:
    """Refuses sums that are no numbers, after mending those that a person has written.

    The previous release goes on: it writes numbers, and needs no index.
    """
    odd = " or ".join(f"not {name} between 0 and {_MOST}" for name in _SUMS)
    # NaN is greater than all numbers, infinity too: neither can be told from a real sum any more.
    mended = ", ".join(
        f"{name} = case when {name} between 0 and {_MOST} then {name} else 0 end" for name in _SUMS
    )
    op.execute(f"update metered_hours set {mended} where {odd}")
    checked = " and ".join(f"{name} between 0 and {_MOST}" for name in _SUMS)
    op.create_check_constraint(op.f("ck_metered_hours_sums"), "metered_hours", checked)
    op.execute("""
        create index ix_dead_letters_open on dead_letters (tenant_id, failed_at)
        where status = 'open'
    """)
