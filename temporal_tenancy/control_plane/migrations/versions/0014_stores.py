"""Where tenants' rows are: the stores, and each tenant's."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from temporal_tenancy.postgres.installation import current_installation, quoted

revision = "0014"
down_revision = "0013"

_ISOLATIONS = "isolation in ('shared', 'schema', 'database')"


def upgrade() -> None:
    """Creates a table and two columns that the previous release neither reads nor writes.

    Its tenants are all in the shared store, where it also adds new ones.
    """
    op.create_table(
        "stores",
        sa.Column("name", sa.Text(collation="C"), nullable=False),
        sa.Column("isolation", sa.Text, nullable=False),
        sa.Column("schema", sa.Text),
        sa.Column("role", sa.Text),
        sa.Column("secret", sa.Text),
        sa.Column("region", sa.Text),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("capacity", sa.Integer),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        sa.Column(
            "state_since", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        sa.PrimaryKeyConstraint("name", name="pk_stores"),
        sa.UniqueConstraint("schema", name="uq_stores_schema"),
        sa.UniqueConstraint("role", name="uq_stores_role"),
        sa.UniqueConstraint("secret", name="uq_stores_secret"),
        sa.CheckConstraint(
            "name ~ '^[a-z][a-z0-9_]{0,62}$' and name <> 'shared'", name=op.f("ck_stores_name")
        ),
        sa.CheckConstraint(_ISOLATIONS, name=op.f("ck_stores_isolation")),
        sa.CheckConstraint(
            "state in ('preparing', 'ready', 'active', 'draining')", name=op.f("ck_stores_state")
        ),
        sa.CheckConstraint(
            "capacity >= 1 and (isolation = 'shared' or capacity = 1)",
            name=op.f("ck_stores_capacity"),
        ),
        sa.CheckConstraint(
            "(isolation = 'schema') = (schema is not null) "
            "and (schema is null) = (role is null) and (schema is null) <> (secret is null)",
            name=op.f("ck_stores_place"),
        ),
    )
    op.add_column(
        "tenants",
        sa.Column("isolation", sa.Text, nullable=False, server_default=sa.text("'shared'")),
    )
    op.add_column("tenants", sa.Column("store", sa.Text(collation="C")))
    op.create_foreign_key("fk_tenants_store_stores", "tenants", "stores", ["store"], ["name"])
    op.create_check_constraint(op.f("ck_tenants_isolation"), "tenants", _ISOLATIONS)
    op.create_check_constraint(
        op.f("ck_tenants_store"), "tenants", "isolation = 'shared' or store is not null"
    )
    op.create_index("ix_tenants_store", "tenants", ["store"])
    roles = current_installation().roles
    op.execute(f"grant select, insert, update, delete on stores to {quoted(roles.platform)}")
    op.execute(f"grant select on stores to {quoted(roles.relay)}")
    # A session may have entered a store's role, and is the tenants' all the same.
    op.execute(f"""
        create or replace trigger tenants_update before update on dead_letters
            for each row when (
                '{roles.tenant}' in (current_user, session_user)
                and (new.status <> 'open' or new.told_at is not null)
            )
            execute function refuse_write('a failure opens a letter, and people do the rest')
    """)
