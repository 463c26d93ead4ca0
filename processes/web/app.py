"""The HTTP door as an ASGI application."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI

from processes.web import (
    downloads,
    exports,
    health,
    imports,
    integrations,
    jobs,
    me,
    openapi,
    pages,
    records,
    reports,
    search,
    webhooks,
)
from processes.web.admission import Admitted
from processes.web.answers import Answers
from processes.web.door import Door
from processes.web.errors import add_error_handlers, documented
from processes.web.heads import Heads

SUMMARY = """
Every request except those to `webhooks` and `downloads` needs `Authorization: Bearer <key>`, and
concerns the data of the key's tenant. The body of an error response is
`{"error": {"type": …, "message": …}}`.

A list returns `{"items": […], "next": …}`. Pass `next` as `after` for the next page; it is null on
the last one. New items do not move the others to another page.

HEAD is answered like GET, without a body; OPTIONS with the methods of the path, in `Allow`.
"""

_ROUTES = (
    me,
    imports,
    exports,
    reports,
    search,
    records,
    integrations,
    jobs,
    webhooks,
    downloads,
    health,
    pages,
)


def create_app(door: Door, database_urls: Sequence[str] = ()) -> FastAPI:
    """Returns the application for `door`; `/readyz` checks the databases at `database_urls`."""
    app = FastAPI(
        title="Airline metering",
        version="1",
        description=SUMMARY,
        docs_url=None,  # that page loads scripts from a CDN; `pages` has one that does not
        redoc_url=None,
        redirect_slashes=False,
        # Its own spans have URLs, which can be credentials, and continue a caller's trace.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        responses=documented(422, 429, 503),  # of any route, in our format instead of FastAPI's
    )
    app.state.door = door
    app.state.databases = health.Databases(database_urls)
    app.state.routes = [route for module in _ROUTES for route in module.router.routes]
    for module in _ROUTES:
        app.include_router(module.router)
    openapi.complete(app, door.open_jobs)
    add_error_handlers(app)
    app.add_middleware(Heads)  # the innermost: the log and the limits see HEAD
    app.add_middleware(Admitted, admission=door.admission)
    app.add_middleware(Answers, drain_seconds=door.admission.limits.drain_seconds)
    return app
