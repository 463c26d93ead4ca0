"""The shop as it was before background jobs."""
import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "organizations",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
    )
    op.create_table(
        "orders",
        sa.Column("organization_id", sa.Uuid, sa.ForeignKey("organizations.id")),
        sa.Column("id", sa.Uuid),
        sa.Column("email", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "id"),
    )
    op.create_table(
        "order_lines",
        sa.Column("organization_id", sa.Uuid),
        sa.Column("order_id", sa.Uuid),
        sa.Column("number", sa.Integer),
        sa.Column("item", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "order_id", "number"),
        sa.ForeignKeyConstraint(
            ["organization_id", "order_id"], ["orders.organization_id", "orders.id"]
        ),
    )
