"""Limits what the tenant's role may write to a message, so that the relay can rely on the rest."""

from __future__ import annotations

from typing import Final

from alembic import op

from temporal_tenancy.postgres.installation import current_installation, quoted
from temporal_tenancy.postgres.row_security import repairing

revision = "0002"
down_revision = "0001"

_SPAN: Final = "between '0002-01-01 00:00:00+00' and '9999-01-01 00:00:00+00'"
_TIMES: Final = (
    "scheduled_at",
    "dequeued_at",
    "last_attempt_at",
    "lease_until",
    "completed_at",
    "created_at",
)


def _finite(column: str) -> str:
    """Returns the SQL of a time, or of now where Python cannot represent the time."""
    return f"case when {column} {_SPAN} then {column} when {column} is not null then now() end"


_TEXTS: Final = ("job", "key", "workflow_id", "error_type", "error_message", "correlation_id")
_ID: Final = "substr(id::text, 15, 1) = '7' and id < 'e677d21f-dc00-7000-8000-000000000000'"
_CHECKS: Final = {
    "times": " and ".join(f"{column} {_SPAN}" for column in _TIMES),
    "sizes": " and ".join(f"char_length({column}) <= 1000" for column in _TEXTS),
    "payload": "pg_column_size(payload) <= 1048576",
    "owner": "starts_with(workflow_id, tenant_id || '/')",
    "id": _ID,
}
# Existing payloads are stored compressed: only the unpacked value shows the size.
_UNPACKED: Final = "pg_column_size(payload #> '{}') <= 1048576"
_ATTEMPTS: Final = "attempts between 0 and 1000000"  # the relay continues from this count
# An oversized payload becomes a text that says so; no job accepts it, and the relay makes it a dead
# letter. A workflow id of another tenant is removed, so that no relay looks it up. A message with
# an invalid id gets a new one, and its dead letter then refers to the new id, to keep its input.
_REPAIR: Final = f"""
    with repaired as (
        update outbox_messages
           set id = case when {_ID} then id else uuidv7() end,
               job = case when char_length(job) <= 1000 then job else 'unknown.job' end,
               key = case when char_length(key) <= 1000 then key else id::text end,
               payload = case
                   when {_UNPACKED} then payload
                   else '"more than a message may hold, taken out by the upgrade"'
               end,
               workflow_id = case
                   when starts_with(workflow_id, tenant_id || '/')
                       and char_length(workflow_id) <= 1000 then workflow_id
               end,
               error_type = left(error_type, 1000),
               error_message = left(error_message, 1000),
               correlation_id = left(correlation_id, 1000),
               attempts = least(greatest(attempts, 0), 1000000),
               {", ".join(f"{column} = {_finite(column)}" for column in _TIMES)}
          from (
                 select tenant_id as the_tenant, id as the_id
                   from outbox_messages
                  where not ({" and ".join(f"({check})" for check in _CHECKS.values())})
                     or not ({_ATTEMPTS} and {_UNPACKED})
               ) as broken
         where tenant_id = the_tenant and id = the_id
        returning tenant_id, id, the_id
    )
    update dead_letters as letter
       set message_id = repaired.id
      from repaired
     where letter.tenant_id = repaired.tenant_id
       and letter.message_id = the_id and the_id <> repaired.id
"""
_REPAIR_EVENTS: Final = f"""
    update processed_events set processed_at = now() where not (processed_at {_SPAN})
"""


def upgrade() -> None:
    """Revokes the tenant's role's access to the relay's columns, and repairs what it wrote there.

    The statements of the previous release still work, also as the tenant's role. That release sets
    the id of a message that it adds; later ones set that of a dead letter's input.
    """
    role = current_installation().roles.tenant
    for table, name, check in _constraints():
        op.execute(f"""
            alter table {table}
                drop constraint if exists {name}, add constraint {name} check ({check}) not valid
        """)
    op.execute(f"revoke insert, update on outbox_messages, processed_events from {quoted(role)}")
    # The relay's columns may be named, as null, because an ORM names every column.
    op.execute(f"""
        grant insert (
            tenant_id, id, job, key, payload, priority, status, scheduled_at, dequeued_at,
            attempts, last_attempt_at, lease_until, completed_at, workflow_id, error_type,
            error_message, correlation_id
        ), update (
            payload, status, scheduled_at, attempts, last_attempt_at, lease_until, completed_at,
            workflow_id, error_type, error_message
        ) on outbox_messages to {quoted(role)}
    """)
    # SELECT ... FOR UPDATE needs the right to update; it locks old events before their deletion.
    op.execute(f"""
        grant insert (tenant_id, consumer, event_id), update (processed_at)
            on processed_events to {quoted(role)}
    """)
    op.execute("""
        create or replace function key_from_id() returns trigger language plpgsql as $$
        begin
            new.key := new.id::text;
            return new;
        end $$
    """)
    op.execute("""
        create or replace trigger key_from_id before insert on outbox_messages
            for each row when (new.key is null) execute function key_from_id()
    """)
    op.execute(f"""
        create or replace trigger tenants_insert before insert on outbox_messages
            for each row when (
                current_user = '{role}' and (
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
                current_user = '{role}' and (
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
    with repairing("dead_letters", "outbox_messages", "processed_events"):
        op.execute(_REPAIR)
        op.execute(_REPAIR_EVENTS)
        for table, name, _ in _constraints():
            op.execute(f"alter table {table} validate constraint {name}")


def _constraints() -> list[tuple[str, str, str]]:
    """Returns the table, name and condition of each check."""
    messages = [
        ("outbox_messages", op.f(f"ck_outbox_messages_{name}"), check)
        for name, check in _CHECKS.items()
    ]
    events = "processed_events", op.f("ck_processed_events_times"), f"processed_at {_SPAN}"
    return [*messages, events]
