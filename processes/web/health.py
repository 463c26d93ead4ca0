"""Whether the process lives, and whether it can answer for tenants."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from temporal_tenancy.postgres.connections import answers

MAX_AGE: Final = 5.0  # seconds that an answer is taken to hold
ASKED: Final = ["GET", "HEAD"]  # many a balancer asks for the status only

router: Final = APIRouter(include_in_schema=False)


class Databases:
    """Whether the databases let their roles in."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = urls
        self._asked_at = float("-inf")
        self._answer = False
        self._asking = asyncio.Lock()

    async def answer(self) -> bool:
        """Whether all of them do, a few seconds ago at most."""
        async with self._asking:
            if time.monotonic() - self._asked_at > MAX_AGE:
                found = [await asyncio.to_thread(answers, url) for url in self._urls]
                self._answer = all(found)
                self._asked_at = time.monotonic()
            return self._answer


@router.api_route("/healthz", methods=ASKED)
async def healthz() -> JSONResponse:
    """Answer, which says that the process lives."""
    return JSONResponse({"status": "ok"})


@router.api_route("/readyz", methods=ASKED)
async def readyz(request: Request) -> JSONResponse:
    """Say whether the databases answer."""
    databases: Databases = request.app.state.databases
    if await databases.answer():
        return JSONResponse({"status": "ready"})
    return JSONResponse(
        {"status": "not ready", "reasons": ["a database does not answer"]}, status_code=503
    )
