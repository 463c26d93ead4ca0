"""Marks an export, report or integration as failed when its job fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

from activities.failed_requests import NoteFailure, RequestKind, note_failure
from workflows.retries import DATABASE_RETRIES


@asynccontextmanager
async def failure_noted(kind: RequestKind, id: object) -> AsyncIterator[None]:
    """Marks the row as failed, and raises the error, if an activity fails permanently."""
    try:
        yield
    except ActivityError as error:
        if not is_cancelled_exception(error):
            # If marking fails too, the original error is the one to report.
            with suppress(ActivityError):
                await workflow.execute_activity(
                    note_failure,
                    _note(kind, str(id), error.cause),
                    start_to_close_timeout=timedelta(seconds=30),
                    retry_policy=DATABASE_RETRIES,
                )
        raise


def _note(kind: RequestKind, id: str, cause: BaseException | None) -> NoteFailure:
    """Returns the note of a failure, with what an error of `outgoing_http` says of a response."""
    if not isinstance(cause, ApplicationError):
        return NoteFailure(kind=kind, id=id, error_type=type(cause).__name__)
    first = next(iter(cause.details), None)
    status = first if isinstance(first, int) else None
    return NoteFailure(kind=kind, id=id, error_type=cause.type, error_status=status)
