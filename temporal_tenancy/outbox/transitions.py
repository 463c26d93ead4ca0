"""What becomes of a message, in SQL: the columns that each change of its state sets.

Of `outbox_messages as m`. The relay and the workflow that works off several messages have
conditions of their own, and these changes in common.
"""

from __future__ import annotations

from typing import Final

ATTEMPTS_MAX: Final = 1_000_000
# A tenant's role may have written any number.
ONE_MORE_ATTEMPT: Final = f"least(greatest(m.attempts, 0), {ATTEMPTS_MAX - 1}) + 1"

CLAIMED: Final = f"""
    status = 'processing', dequeued_at = now(), last_attempt_at = now(),
    attempts = {ONE_MORE_ATTEMPT}, lease_until = now() + :lease, workflow_id = null
"""
BEGUN_AGAIN: Final = f"attempts = {ONE_MORE_ATTEMPT}, last_attempt_at = now()"
HANDED_OVER: Final = "workflow_id = :workflow_id, lease_until = now() + :lease"
COMPLETED: Final = """
    status = 'completed', completed_at = now(), lease_until = null,
    error_type = null, error_message = null
"""
# Nothing was tried: it is what it was before it was claimed.
RELEASED: Final = """
    status = case when m.error_type is null then 'pending' else 'failed' end,
    lease_until = null, attempts = greatest(m.attempts, 1) - 1, workflow_id = null
"""
# The attempt came to nothing, and the next is at once.
GIVEN_BACK: Final = """
    status = 'failed', lease_until = null, workflow_id = null,
    error_type = :error_type, error_message = :error_message
"""
# From `failed (wait, error_type, error_message)`; without a wait it was the last attempt. A handler
# may ask for any delay, and the time is to be one.
FAILED: Final = """
    status = case when failed.wait is null then 'dead_letter' else 'failed' end,
    scheduled_at = case
        when failed.wait is null then m.scheduled_at
        else now() + greatest(least(failed.wait, interval '1 year'), interval '0')
    end,
    lease_until = null, workflow_id = null,
    error_type = failed.error_type, error_message = failed.error_message
"""
