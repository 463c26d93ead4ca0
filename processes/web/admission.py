"""Limits concurrent requests, per address and in total."""

from __future__ import annotations

from contextlib import ExitStack

from starlette.types import ASGIApp, Receive, Scope, Send

from processes.web.addresses import Addresses
from processes.web.answers import QUIET
from processes.web.errors import problem_of
from processes.web.key_tries import KeyTries
from processes.web.limits import Limits
from processes.web.refusals import WebRefusal
from processes.web.shares import Share
from temporal_tenancy.shared_state import SharedState


class Admission:
    """The door's limits, and how much of them callers are using in this process."""

    def __init__(self, limits: Limits | None = None, state: SharedState | None = None) -> None:
        self.limits = limits = limits or Limits()
        self.addresses = Addresses(limits.trusted_proxies)
        self.requests = Share(limits.requests_per_address, limits.requests)
        self.tenant_requests = Share(limits.requests_per_tenant)
        self.uploads = Share(limits.uploads_per_address, limits.uploads)
        self.tenant_uploads = Share(limits.uploads_per_tenant)
        self.streams = Share(limits.streams_per_tenant)
        self.webhooks = Share(limits.webhooks_per_address, limits.webhooks)
        self.key_tries = KeyTries(limits.key_failures_per_minute, state)


class Admitted:
    """Middleware that limits concurrent requests, except those for the door's health."""

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self._app = app
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers 429 or 503."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        address = self._admission.addresses.of_call(scope)
        scope.setdefault("state", {})["address"] = address
        if scope["path"] in QUIET:
            await self._app(scope, receive, send)
            return
        with ExitStack() as slots:
            try:
                slots.enter_context(self._admission.requests.taken(address))
            except WebRefusal as refusal:
                await problem_of(refusal)(scope, receive, send)
                return
            await self._app(scope, receive, send)
