"""The pages for people: import, exports, search, integrations, and the reference of the API.

They are files without inline scripts or styles, so that the Content-Security-Policy can forbid
those. Swagger UI comes from the package `fastapi-offline`, and no file from another host.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
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
KINDS: Final = {".js": "text/javascript", ".css": "text/css"}
VIEWER: Final = ("swagger-ui-bundle.js", "swagger-ui.css")
KEPT: Final = "public, max-age=86400"  # by browsers, for the viewer's large files

_SITE: Final = Path(__file__).parent / "site"
_TEXTS: Final = {path.name: path.read_text() for path in _SITE.iterdir()}
_VIEWER: Final = Path(str(files("fastapi_offline"))) / "static"


@dataclass(frozen=True)
class _Page:
    """A page of `layout.html`, with the key's card; `{name}.html` has its content."""

    name: str
    path: str
    link: str  # its name in the navigation
    title: str
    lead: str


_PAGES: Final = (
    _Page(
        "import",
        "/",
        "Import",
        "Import contacts",
        "Upload a CSV file. Contacts are identified by their e-mail address: known ones are "
        "updated.",
    ),
    _Page(
        "exports",
        "/pages/exports",
        "Exports",
        "Exports",
        "Request a file with your data. It is kept for a week.",
    ),
    _Page(
        "search",
        "/pages/search",
        "Search",
        "Search",
        "Find your contacts and reports. New ones appear a moment after they were imported or "
        "made.",
    ),
    _Page(
        "integrations",
        "/pages/integrations",
        "Integrations",
        "Integrations",
        "Copy the records of a partner's system, and see how the last copy went.",
    ),
)


_REFERENCE: Final = "/docs"


def _links(here: str) -> str:
    """Returns the navigation of the page at the path `here`."""
    names = {**{page.path: page.link for page in _PAGES}, _REFERENCE: "API reference"}
    return "\n".join(
        '    <a href="{}"{}>{}</a>'.format(
            path, ' aria-current="page"' if path == here else "", name
        )
        for path, name in names.items()
    )


def _written(page: _Page) -> str:
    return Template(_TEXTS["layout.html"]).substitute(
        vars(page), links=_links(page.path), content=_TEXTS[f"{page.name}.html"]
    )


_WRITTEN: Final = {
    **{page.path: _written(page) for page in _PAGES},
    _REFERENCE: Template(_TEXTS["docs.html"]).substitute(links=_links(_REFERENCE)),
}

router: Final = APIRouter(include_in_schema=False)


@router.get("/", response_class=HTMLResponse)
async def import_page() -> HTMLResponse:
    """The page on which a person imports a file."""
    return _page(_WRITTEN["/"])


@router.get("/docs", response_class=HTMLResponse)
async def docs_page() -> HTMLResponse:
    """The routes in `/openapi.json`, for people to read and try."""
    return _page(_WRITTEN[_REFERENCE])


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
    if (page := _WRITTEN.get(f"/pages/{name}")) is not None:
        return _page(page)
    kind = KINDS.get(Path(name).suffix)
    if kind is None or name not in _TEXTS:
        raise PageUnknown
    return Response(_TEXTS[name], media_type=kind)


def _page(text: str) -> HTMLResponse:
    return HTMLResponse(text, headers={"Content-Security-Policy": POLICY})
