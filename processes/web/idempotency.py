"""The header `Idempotency-Key`: a program that got no answer can send its request again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Final

from fastapi import Header, Request
from fastapi.encoders import jsonable_encoder
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import JSONResponse

from saas.requests.idempotency import (
    KEPT,
    KEY_MAX_CHARACTERS,
    IdempotencyKeyInvalid,
    KeyedRequest,
    answer_once,
)
from temporal_tenancy import tenant_session
from temporal_tenancy.core import duration

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotent-Replayed"  # Stripe's name

Key = Annotated[
    str | None,
    Header(
        alias=HEADER,
        description=f"A new text for each request, such as a UUID: up to {KEY_MAX_CHARACTERS} "
        f"visible ASCII characters. For {duration(KEPT)}, the same request with the same key gets "
        "the first answer and has no second effect; another request with it is 422.",
    ),
]
"""A request's idempotency key, which every route takes that makes something."""


async def answered_once(
    request: Request,
    key: str | None,
    body: Mapping[str, Any],
    make: Callable[[AsyncSession], Awaitable[BaseModel]],
) -> JSONResponse:
    """Does what a request asks for in a new `tenant_session()`, and returns the answer.

    With a key, only the first request with it is done. The others get its answer, with the header
    `Idempotent-Replayed: true`.

    Args:
        request: the request; its method, path and query are part of what it asks for.
        key: its idempotency key.
        body: what its body asks for (JSON).
        make: does it in the session, and returns the answer, which has the route's status.

    Raises:
        IdempotencyKeyInvalid, IdempotencyKeyReused, IdempotencyKeyInUse: because of the key.
    """

    async def made() -> dict[str, Any]:
        answer: dict[str, Any] = jsonable_encoder(await make(session))
        return answer

    status: int = request.scope["route"].status_code
    if key is None:
        async with tenant_session() as session:
            answer = await made()
        return JSONResponse(answer, status)
    if len(request.headers.getlist(HEADER)) > 1:
        raise IdempotencyKeyInvalid(f"the request has two headers {HEADER}. Send one.")
    keyed = KeyedRequest.of(
        key,
        {
            "method": request.method,
            "path": request.url.path,
            "query": sorted(request.query_params.multi_items()),
            "body": body,
        },
    )
    async with tenant_session() as session:
        answered = await answer_once(session, keyed, made)
    headers = {REPLAYED: "true"} if answered.repeated else None
    return JSONResponse(answered.answer, status, headers)
