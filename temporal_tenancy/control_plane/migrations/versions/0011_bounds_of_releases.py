"""The task queues of a release, how many tenants must fail, and tighter checks of its row."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_TENANTS = (
    "state <> 'ramping' or "
    "(coalesce(cardinality(tenants), 1) > 0 and array_position(tenants, null) is null)"
)
_BOUNDS = (
    "max_failures > 0 and max_failures <= 1 and max_slowdown > 1 and max_slowdown <= 1000 "
    "and min_runs >= 1 and min_tenants >= 1"
)


def upgrade() -> None:
    """Adds columns with defaults, which the previous release neither reads nor writes.

    A row that the checks would refuse is mended first: a bound becomes the highest, and a release
    that names no tenant is halted.
    """
    op.add_column(
        "releases", sa.Column("min_tenants", sa.Integer, nullable=False, server_default="2")
    )
    op.add_column("releases", sa.Column("queues", sa.ARRAY(sa.Text)))
    op.execute(
        "update releases set max_failures = least(max_failures, 1),"
        " max_slowdown = least(max_slowdown, 1000)"
        " where not (max_failures <= 1 and max_slowdown <= 1000)"
    )
    op.execute(
        "update releases set state = 'halted', ended_at = now(), reason = 'it named no tenant.'"
        f" where not ({_TENANTS})"
    )
    op.execute("alter table releases drop constraint if exists ck_releases_bounds")
    op.create_check_constraint(op.f("ck_releases_bounds"), "releases", _BOUNDS)
    op.create_check_constraint(op.f("ck_releases_tenants"), "releases", _TENANTS)
