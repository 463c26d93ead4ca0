"""Limits the columns and values of a dead letter that the tenant role can write."""

from __future__ import annotations

from typing import Final

from alembic import op

from temporal_tenancy.postgres.installation import current_installation, quoted
from temporal_tenancy.postgres.row_security import repairing

revision = "0006"
down_revision = "0005"

_SPAN: Final = "between '0002-01-01 00:00:00+00' and '9999-01-01 00:00:00+00'"
_CHECKS: Final = {
    "times": (
        f"failed_at {_SPAN} and recorded_at {_SPAN} and handled_at {_SPAN} and told_at {_SPAN}"
    ),
    "sizes": (
        "char_length(job) <= 1000 and char_length(source) <= 1000 "
        "and char_length(workflow_id) <= 1000 and char_length(run_id) <= 1000 "
        "and char_length(error_type) <= 1000 and char_length(message) <= 1000"
    ),
    "owner": "starts_with(workflow_id, tenant_id || '/' || job || '/')",
    "fingerprint": "fingerprint ~ '^[0-9a-f]{16}$'",
}
# A letter whose workflow id is not of its own tenant and job gets the job "unknown.job", as a relay
# names a job that it does not know. An invalid fingerprint is replaced by its hash.
_REPAIR: Final = f"""
    update dead_letters
       set job = case when is_own then job else 'unknown.job' end,
           workflow_id = case
               when is_own then workflow_id else tenant_id || '/unknown.job/' || id
           end,
           source = left(source, 1000),
           run_id = case when char_length(run_id) <= 1000 then run_id end,
           error_type = left(error_type, 1000),
           message = left(message, 1000),
           fingerprint = case
               when fingerprint ~ '^[0-9a-f]{{16}}$' then fingerprint
               else left(encode(sha256(convert_to(fingerprint, 'UTF8')), 'hex'), 16)
           end,
           failed_at = case when failed_at {_SPAN} then failed_at else now() end,
           recorded_at = case when recorded_at {_SPAN} then recorded_at else now() end,
           handled_at = case when handled_at {_SPAN} then handled_at
               when handled_at is not null then now() end,
           told_at = case when told_at {_SPAN} then told_at
               when told_at is not null then now() end
      from (
             select tenant_id as the_tenant, id as the_id,
                 starts_with(workflow_id, tenant_id || '/' || job || '/')
                     and char_length(workflow_id) <= 1000 as is_own
               from dead_letters
              where not ({" and ".join(f"({check})" for check in _CHECKS.values())})
           ) as broken
     where tenant_id = the_tenant and id = the_id
"""


def upgrade() -> None:
    """Revokes the platform's columns from the tenant role, and repairs invalid rows.

    Statements that the previous release sends, also as the tenant role, still work.
    """
    role = current_installation().roles.tenant
    for name, check in _CHECKS.items():
        constraint = op.f(f"ck_dead_letters_{name}")
        op.execute(f"""
            alter table dead_letters
                drop constraint if exists {constraint},
                add constraint {constraint} check ({check}) not valid
        """)
    op.execute(f"revoke insert, update on dead_letters from {quoted(role)}")
    op.execute(f"""
        grant insert (
            tenant_id, job, source, workflow_id, run_id, message_id, error_type, message,
            fingerprint, attempts, failed_at
        ), update (
            source, run_id, message_id, error_type, message, fingerprint, attempts, failed_at,
            recorded_at, status, told_at
        ) on dead_letters to {quoted(role)}
    """)
    # Called by triggers whose conditions match forbidden writes.
    op.execute("""
        create or replace function refuse_write() returns trigger language plpgsql as $$
        begin
            raise insufficient_privilege using message = format(
                '%s may not write this to %s: %s', current_user, tg_table_name, tg_argv[0]
            );
        end $$
    """)
    op.execute(f"""
        create or replace trigger tenants_update before update on dead_letters
            for each row when (
                current_user = '{role}'
                and (new.status <> 'open' or new.told_at is not null)
            )
            execute function refuse_write('a failure opens a letter, and people do the rest')
    """)
    with repairing("dead_letters"):
        op.execute(_REPAIR)
        for name in _CHECKS:
            op.execute(f"alter table dead_letters validate constraint ck_dead_letters_{name}")
