"""Answers for the library's refusals: `{"error": {"type", "message"}}`."""

from __future__ import annotations

import logging
from typing import Final

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from temporal_tenancy.core.display import printable
from temporal_tenancy.core.errors import (
    FeatureNotEnabled,
    InvalidPayload,
    TenantInvalid,
    TenantMismatch,
    TenantMissing,
    TenantOffboarding,
    TenantSuspended,
    TenantUnknown,
)
from temporal_tenancy.outbox import KeyTaken, MessageTaken, MessageUnknown, PayloadTooLarge
from temporal_tenancy.postgres.database_errors import (
    DatabaseProblem,
    DatabaseUnreachable,
    IdleTransaction,
    LockHeld,
    PoolExhausted,
    PoolShareInUse,
    StatementTimeout,
    TransactionTimeout,
)

# Errors whose message helps the caller. Others, such as ScopeMissing, are bugs of the application:
# they stay 500, with a traceback in the server's log.
STATUSES: Final[dict[type[Exception], int]] = {
    TenantSuspended: 403,
    TenantOffboarding: 403,
    FeatureNotEnabled: 403,
    TenantUnknown: 404,
    MessageUnknown: 404,
    KeyTaken: 409,
    MessageTaken: 409,
    PayloadTooLarge: 413,
    TenantMissing: 422,
    TenantInvalid: 422,
    TenantMismatch: 422,
    InvalidPayload: 422,
}
# A later attempt may succeed.
BUSY: Final[tuple[type[DatabaseProblem], ...]] = (
    DatabaseUnreachable,
    IdleTransaction,
    LockHeld,
    PoolExhausted,
    PoolShareInUse,
    StatementTimeout,
    TransactionTimeout,
)
RETRY_AFTER: Final = 1  # seconds

log: Final = logging.getLogger(__name__)


def add_answers(application: FastAPI) -> None:
    """Adds the handlers of exceptions; one that the application has for the same type stays."""
    for kind in STATUSES:
        application.exception_handlers.setdefault(kind, _refused)
    for busy in BUSY:
        application.exception_handlers.setdefault(busy, _busy)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    status = next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)
    return _answer(status, type(error).__name__, getattr(error, "message", str(error)))


async def _busy(request: Request, error: Exception) -> JSONResponse:
    # The error's own message names hosts and roles, so it is only logged.
    log.error(
        "request.unavailable", extra={"error_type": type(error).__name__, "error": str(error)}
    )
    answer = _answer(503, "Unavailable", "the database does not answer. Try again in a moment.")
    answer.headers["Retry-After"] = str(RETRY_AFTER)
    return answer


def _answer(status: int, kind: str, message: str) -> JSONResponse:
    return JSONResponse({"error": {"type": kind, "message": printable(message)}}, status)
