"""The HTTP door's error responses: `{"error": {"type", "message"}}`."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Match
from temporalio.service import RPCError

from activities.uploads import EncodingUnknown, FileTooLarge
from processes.web.refusals import InvalidRequest, WebRefusal
from processes.web.sentences import sentence
from saas.database.paging import CursorInvalid
from saas.database.search import QueryInvalid
from saas.hints import message_with_hint
from saas.requests.exports import ExportNotReady
from saas.requests.idempotency import (
    IdempotencyKeyInUse,
    IdempotencyKeyInvalid,
    IdempotencyKeyReused,
)
from saas.requests.integrations import CredentialMissing, IntegrationInvalid
from saas.services.links import LinkExpired, LinkForged
from saas.services.object_storage import StorageFailed
from saas.services.outgoing_http import AddressRefused
from saas.services.secrets import SecretRefused
from saas.services.webhooks import WebhookRejected
from temporal_tenancy import (
    ConfigurationError,
    FeatureNotEnabled,
    InvalidPayload,
    TenantInvalid,
    TenantMismatch,
    TenantMissing,
    TenantOffboarding,
    TenantSuspended,
)
from temporal_tenancy.cli import NotReachable
from temporal_tenancy.core import printable, problem_of_field
from temporal_tenancy.outbox import KeyTaken, PayloadTooLarge
from temporal_tenancy.postgres import DatabaseProblem

# Errors whose message helps the caller; all others are logged and not shown.
STATUSES: Final[dict[type[Exception], int]] = {
    TenantMissing: 422,
    TenantInvalid: 422,
    TenantMismatch: 422,
    InvalidPayload: 422,
    PayloadTooLarge: 413,
    KeyTaken: 409,
    IdempotencyKeyInvalid: 422,
    IdempotencyKeyReused: 422,
    IdempotencyKeyInUse: 409,
    FileTooLarge: 413,
    EncodingUnknown: 422,
    TenantSuspended: 403,
    TenantOffboarding: 403,
    FeatureNotEnabled: 403,
    WebhookRejected: 401,
    ExportNotReady: 409,
    CredentialMissing: 409,
    IntegrationInvalid: 422,
    AddressRefused: 422,
    CursorInvalid: 422,
    QueryInvalid: 422,
    LinkForged: 404,
    LinkExpired: 410,
}
# What the caller reads in place of a message for operators; {what} is what was asked for.
FOR_CALLERS: Final[dict[type[Exception], str]] = {
    FeatureNotEnabled: "Your plan does not include {what}.",
    TenantSuspended: "This account is suspended. What exists can be read, and nothing started.",
    TenantOffboarding: "This account is being closed. Nothing can be started any more.",
}
NOUNS: Final = frozenset({"imports", "exports", "reports", "integrations"})  # first in a path
AWAY: Final = (
    NotReachable,
    DatabaseProblem,
    StorageFailed,
    SecretRefused,
    ConfigurationError,
    RPCError,
)
_MODEL: Final = re.compile(r" does not fit \w+: ")  # the name of a class means nothing to a caller
RETRY_AFTER: Final = 5  # seconds

log: Final = structlog.get_logger(__name__)


class Problem(BaseModel):
    """An error's type and message."""

    type: str
    message: str  # says what is wrong and what to do


class ProblemAnswer(BaseModel):
    """The body of every error response."""

    error: Problem


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:  # FastAPI's `responses`
    """Returns the documentation of a route's error responses."""
    return {
        status: {"model": ProblemAnswer, "description": HTTPStatus(status).phrase}
        for status in sorted(statuses)
    }


def add_error_handlers(app: FastAPI) -> None:
    """Makes `app` answer every error in the same format, and never with internal details."""
    for kind in STATUSES:
        app.add_exception_handler(kind, _client_error)
    for kind in AWAY:
        app.add_exception_handler(kind, _away)
    app.add_exception_handler(WebRefusal, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _of_the_framework)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _unexpected)


def problem(
    status: int, kind: str, message: str, headers: dict[str, str] | None = None
) -> Response:
    """Returns an error response."""
    body = ProblemAnswer(error=Problem(type=kind, message=sentence(printable(message))))
    return JSONResponse(body.model_dump(), status, headers=headers)


def problem_of(refusal: WebRefusal) -> Response:
    """Returns the response for a refusal."""
    return problem(refusal.status, type(refusal).__name__, refusal.message, refusal.headers)


async def _client_error(request: Request, error: Exception) -> Response:
    message = getattr(error, "message", None) or str(error)
    if isinstance(error, InvalidPayload):
        message = _MODEL.sub(": ", message, count=1)
    if template := FOR_CALLERS.get(type(error)):
        noun = request.url.path.split("/")[1]
        message = template.format(what=noun if noun in NOUNS else "this")
    status = next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)
    return problem(status, type(error).__name__, message)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, WebRefusal)
    return problem_of(error)


async def _away(request: Request, error: Exception) -> Response:
    # The error's own message names hosts and settings, so it is only logged.
    kind = type(error).__name__
    log.error("web.unavailable", error=kind, detail=message_with_hint(kind, str(error)))
    return problem(
        503,
        "Unavailable",
        "a required service does not answer. Try again in a moment.",
        {"Retry-After": str(RETRY_AFTER)},
    )


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    places = "; ".join(
        problem_of_field({**each, "loc": each["loc"][1:]})  # without "query" or "path"
        for each in error.errors()
    )
    return problem(422, InvalidRequest.__name__, f"the request does not fit: {places}.")


async def _of_the_framework(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    phrase = HTTPStatus(error.status_code).phrase
    message = f"{phrase.lower()}. GET /docs lists the routes."
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:  # the framework names one route's
        methods = _methods(request) | set(headers.get("Allow", "GET").split(", "))
        # `Heads` answers HEAD.
        methods |= {"OPTIONS", "HEAD"} if "GET" in methods else {"OPTIONS"}
        headers["Allow"] = ", ".join(sorted(methods))
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=headers)
    return problem(error.status_code, phrase.title().replace(" ", ""), message, headers)


def _methods(request: Request) -> set[str]:
    """Returns the methods of all routes with the request's path."""
    methods: set[str] = set()
    for route in request.app.state.routes:
        match, _ = route.matches(request.scope)
        if match is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    return methods


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody reads it


async def _unexpected(request: Request, error: Exception) -> Response:
    # The server logs the traceback.
    return problem(500, "InternalError", "the request failed, and was logged. Try again later.")
