"""The limits on what a tenant may write to a message hold in the roles of stores too."""

from __future__ import annotations

from typing import Final

from alembic import op

from temporal_tenancy.postgres.installation import current_installation

revision = "0005"
down_revision = "0004"

_ATTEMPTS: Final = "attempts between 0 and 1000000"


def upgrade() -> None:
    """Replaces both triggers: a session that has entered another role is the tenants' as before."""
    is_tenants = f"'{current_installation().roles.tenant}' in (current_user, session_user)"
    op.execute(f"""
        create or replace trigger tenants_insert before insert on outbox_messages
            for each row when (
                {is_tenants} and (
                    new.status not in ('pending', 'dead_letter')
                    or not (new.{_ATTEMPTS})
                    or new.dequeued_at is not null
                    or new.last_attempt_at is not null
                    or new.lease_until is not null
                    or new.completed_at is not null
                    or new.workflow_id is not null
                )
            )
            execute function refuse_write('a new message waits, and the relay does the rest')
    """)
    op.execute(f"""
        create or replace trigger tenants_update before update on outbox_messages
            for each row when (
                {is_tenants} and (
                    new.status = 'processing' and old.status <> 'processing'
                    or not (new.{_ATTEMPTS})
                    or new.lease_until is distinct from old.lease_until
                        and new.lease_until is not null
                    or new.workflow_id is distinct from old.workflow_id
                        and new.workflow_id is not null
                )
            )
            execute function refuse_write('who has a message, and for how long, the relay says')
    """)
