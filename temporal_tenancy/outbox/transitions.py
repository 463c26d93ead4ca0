"""The state transitions of a message in SQL: the columns that each one sets.

They apply to `outbox_messages as m`. The relay and the workflow that handles several messages share
these transitions and add their own conditions.
"""

from __future__ import annotations

from typing import Final

from temporal_tenancy.outbox.tables import MessageStatus

ATTEMPTS_MAX: Final = 1_000_000
# The tenant's role may have written any number.
ONE_MORE_ATTEMPT: Final = f"least(greatest(m.attempts, 0), {ATTEMPTS_MAX - 1}) + 1"

CLAIMED: Final = f"""
    status = '{MessageStatus.PROCESSING}', dequeued_at = now(), last_attempt_at = now(),
    attempts = {ONE_MORE_ATTEMPT}, lease_until = now() + :lease, workflow_id = null
"""
BEGUN_AGAIN: Final = f"attempts = {ONE_MORE_ATTEMPT}, last_attempt_at = now()"
HANDED_OVER: Final = "workflow_id = :workflow_id, lease_until = now() + :lease"
COMPLETED: Final = f"""
    status = '{MessageStatus.COMPLETED}', completed_at = now(), lease_until = null,
    error_type = null, error_message = null
"""
# Nothing was attempted, so the message returns to its state before the claim.
RELEASED: Final = f"""
    status = case
        when m.error_type is null then '{MessageStatus.PENDING}' else '{MessageStatus.FAILED}'
    end,
    lease_until = null, attempts = greatest(m.attempts, 1) - 1, workflow_id = null
"""
# The attempt had no result, and the next one follows immediately.
GIVEN_BACK: Final = f"""
    status = '{MessageStatus.FAILED}', lease_until = null, workflow_id = null,
    error_type = :error_type, error_message = :error_message
"""
# From `failed (wait, error_type, error_message)`; a null wait means that no attempt is left. A
# handler may ask for any delay, so the wait is limited to keep the time in range.
FAILED: Final = f"""
    status = case
        when failed.wait is null then '{MessageStatus.DEAD_LETTER}' else '{MessageStatus.FAILED}'
    end,
    scheduled_at = case
        when failed.wait is null then m.scheduled_at
        else now() + greatest(least(failed.wait, interval '1 year'), interval '0')
    end,
    lease_until = null, workflow_id = null,
    error_type = failed.error_type, error_message = failed.error_message
"""
