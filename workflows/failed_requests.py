"""Saying of what was asked for that its job has failed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from activities.failed_requests import NoteFailure, RequestKind, note_failure
from workflows.retries import DATABASE_RETRIES


@asynccontextmanager
async def failure_noted(kind: RequestKind, id: object) -> AsyncIterator[None]:
    """Notes it on the row when an activity fails for good in the block; the failure goes on."""
    try:
        yield
    except ActivityError as error:
        if not is_cancelled_exception(error):
            # The first failure is the one that a person must see.
            with suppress(ActivityError):
                await workflow.execute_activity(
                    note_failure,
                    NoteFailure(kind=kind, id=str(id)),
                    start_to_close_timeout=timedelta(seconds=30),
                    retry_policy=DATABASE_RETRIES,
                )
        raise
