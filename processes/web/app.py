"""The HTTP door as an ASGI application."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI

from processes.web import downloads, health, imports, jobs, pages, webhooks
from processes.web.admission import Admitted
from processes.web.answers import Answers
from processes.web.door import Door
from processes.web.errors import add_error_handlers, documented

SUMMARY = """
Every call but those of `webhooks` and `downloads` needs `Authorization: Bearer <key>`, and is about
the data of the key's tenant. What cannot be done is answered with
`{"error": {"type": …, "message": …}}`.
"""


def create_app(door: Door, database_urls: Sequence[str] = ()) -> FastAPI:
    """The application behind which `door` is; `database_urls` are what `/readyz` looks at."""
    app = FastAPI(
        title="Background jobs",
        version="1",
        description=SUMMARY,
        docs_url=None,  # its page loads scripts from elsewhere; ours needs none
        redoc_url=None,
        redirect_slashes=False,
        responses=documented(422, 429, 503),  # any route's, and not as FastAPI shapes them
    )
    app.state.door = door
    app.state.databases = health.Databases(database_urls)
    for router in (imports, jobs, webhooks, downloads, health, pages):
        app.include_router(router.router)
    add_error_handlers(app)
    app.add_middleware(Admitted, admission=door.admission)
    app.add_middleware(Answers, drain_seconds=door.admission.limits.drain_seconds)
    return app
