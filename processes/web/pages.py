"""Web pages: one to upload a file and watch its import, one that lists the routes."""

from __future__ import annotations

import base64
import hashlib
import re
from html import escape
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

UPLOAD: Final = (Path(__file__).parent / "upload.html").read_text()
_CODE: Final = re.compile(r"`([^`]+)`")
_INLINE: Final = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)

router: Final = APIRouter(include_in_schema=False)


def policy_of(page: str) -> str:
    """Returns the Content-Security-Policy that allows only a page's own scripts and styles."""
    sources: dict[str, list[str]] = {"script": [], "style": []}
    for kind, content in _INLINE.findall(page):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        sources[kind].append(f"'sha256-{digest}'")
    allowed = [f"{kind}-src {' '.join(found)}" for kind, found in sources.items() if found]
    return "; ".join(
        [
            "default-src 'none'",
            *allowed,
            "img-src data:",  # an empty icon, so that browsers request none
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )


@router.get("/", response_class=HTMLResponse)
async def upload_page() -> HTMLResponse:
    """The page on which a person imports a file."""
    return _page(UPLOAD)


@router.get("/docs", response_class=HTMLResponse)
async def docs_page(request: Request) -> HTMLResponse:
    """The routes in `/openapi.json`, for people to read."""
    return _page(_reference(request.app.openapi()))


def _page(page: str) -> HTMLResponse:
    return HTMLResponse(page, headers={"Content-Security-Policy": policy_of(page)})


def _reference(api: dict[str, Any]) -> str:
    routes = "".join(
        _route(method, path, operation)
        for path, methods in api["paths"].items()
        for method, operation in methods.items()
    )
    about = _prose(api["info"]["description"].strip())
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{escape(api["info"]["title"])}</title>
<link rel="icon" href="data:,">
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{escape(api["info"]["title"])}</h1>
<p>{about}</p>
<p>For programs: <a href="/openapi.json">openapi.json</a>.</p>
{routes}
</main>
</body>
</html>
"""


def _prose(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", escape(text))


def _route(method: str, path: str, operation: dict[str, Any]) -> str:
    needs = "" if operation.get("security") else " <small>without a key</small>"
    parameters = "".join(
        f"<li><code>{escape(each['name'])}</code> in the {escape(each['in'])}"
        f"{', required' if each.get('required') else ''}</li>"
        for each in operation.get("parameters", [])
    )
    takes = ", ".join(operation.get("requestBody", {}).get("content", {}))
    answers = "".join(
        f"<tr><td>{escape(status)}<td>{escape(answer['description'])}"
        for status, answer in sorted(operation["responses"].items())
    )
    return (
        f"<section><h2><code>{method.upper()} {escape(path)}</code>{needs}</h2>"
        f"<p>{_prose(operation.get('description') or operation['summary'])}</p>"
        + (f"<ul>{parameters}</ul>" if parameters else "")
        + (f"<p>Takes {escape(takes)}.</p>" if takes else "")
        + f"<table>{answers}</table></section>"
    )


_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1f24; background: #fff; margin: 0 }
main { max-width: 46rem; margin: 2rem auto; padding: 0 1rem }
section { border-top: 1px solid #d0d7de; margin-top: 1.5rem }
h2 { font-size: 1.05rem }
small { font-weight: normal; color: #57606a }
td { padding: 0 1rem 0 0; vertical-align: top }
"""
