"""The pages for people: import, exports, search, and the reference of the API.

They are files without inline scripts or styles, so that the Content-Security-Policy can forbid
those. Swagger UI comes from the package `fastapi-offline`, and no file from another host.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Final

from fastapi import APIRouter
from fastapi.responses import FileResponse, HTMLResponse, Response

from processes.web.refusals import PageUnknown

POLICY: Final = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",  # an empty icon, so that browsers request none; Swagger UI's arrows
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
PAGES: Final = ("exports", "search")  # besides "/" and "/docs"
KINDS: Final = {".js": "text/javascript", ".css": "text/css"}
VIEWER: Final = ("swagger-ui-bundle.js", "swagger-ui.css")
KEPT: Final = "public, max-age=86400"  # by browsers, for the viewer's large files

_SITE: Final = Path(__file__).parent / "site"
_TEXTS: Final = {path.name: path.read_text() for path in _SITE.iterdir()}
_VIEWER: Final = Path(str(files("fastapi_offline"))) / "static"

router: Final = APIRouter(include_in_schema=False)


@router.get("/", response_class=HTMLResponse)
async def import_page() -> HTMLResponse:
    """The page on which a person imports a file."""
    return _page("import.html")


@router.get("/docs", response_class=HTMLResponse)
async def docs_page() -> HTMLResponse:
    """The routes in `/openapi.json`, for people to read and try."""
    return _page("docs.html")


@router.get("/docs/{name}")
async def viewer_file(name: str) -> FileResponse:
    """A file of Swagger UI."""
    if name not in VIEWER:
        raise PageUnknown
    path = _VIEWER / name
    return FileResponse(path, media_type=KINDS[path.suffix], headers={"Cache-Control": KEPT})


@router.get("/pages/{name}")
async def page_or_file(name: str) -> Response:
    """A further page, or a style sheet or script of the pages."""
    if name in PAGES:
        return _page(f"{name}.html")
    kind = KINDS.get(Path(name).suffix)
    if kind is None or name not in _TEXTS:
        raise PageUnknown
    return Response(_TEXTS[name], media_type=kind)


def _page(name: str) -> HTMLResponse:
    return HTMLResponse(_TEXTS[name], headers={"Content-Security-Policy": POLICY})
