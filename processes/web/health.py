"""The HTTP door's liveness and readiness."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from processes.web.door import door_of
from temporal_tenancy.postgres import answers

MAX_AGE: Final = 5.0  # seconds that a result is cached

router: Final = APIRouter(include_in_schema=False)


class Databases:
    """Checks that the databases accept connections of their roles."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = urls
        self._asked_at = float("-inf")
        self._answer = False
        self._asking = asyncio.Lock()

    async def answer(self) -> bool:
        """Returns whether all databases answered, at most `MAX_AGE` ago."""
        async with self._asking:
            if time.monotonic() - self._asked_at > MAX_AGE:
                found = [await asyncio.to_thread(answers, url) for url in self._urls]
                self._answer = all(found)
                self._asked_at = time.monotonic()
            return self._answer


@router.get("/healthz")
async def healthz() -> JSONResponse:
    """Answer 200: the process is alive."""
    return JSONResponse({"status": "ok"})


@router.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    """Answer 200 if the databases answer and the process is not stopping, else 503."""
    if door_of(request).unready.is_set():
        return _not_ready("the process is stopping")
    databases: Databases = request.app.state.databases
    if await databases.answer():
        return JSONResponse({"status": "ready"})
    return _not_ready("a database does not answer")


def _not_ready(reason: str) -> JSONResponse:
    return JSONResponse({"status": "not ready", "reasons": [reason]}, status_code=503)
