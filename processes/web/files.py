"""Tenants' files, sent so that a browser keeps them and shows none."""

from __future__ import annotations

from typing import Final

from fastapi.responses import StreamingResponse

from processes.web.refusals import FileUnknown
from saas.services.object_storage import ObjectNotFound, ObjectStorage

KINDS: Final = {
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
UNKNOWN_KIND: Final = "application/octet-stream"


async def attachment(storage: ObjectStorage, path: str, name: str) -> StreamingResponse:
    """The current tenant's object at `path`, to be kept under `name` (as in an object's path).

    The answer is to be sent in the tenant's scope. Raises `FileUnknown` where there is no object.
    """
    try:
        size = await storage.size(path)
    except ObjectNotFound:
        raise FileUnknown from None
    return StreamingResponse(
        storage.open(path),
        media_type=KINDS.get(name.rsplit(".", 1)[-1], UNKNOWN_KIND),
        headers={
            "Content-Length": str(size),
            "Content-Disposition": f'attachment; filename="{name}"',
        },
    )
