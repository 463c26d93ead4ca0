"""Sends tenants' files as attachments, which a browser saves and does not display."""

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
    """Returns the current tenant's object at `path` as a download called `name`.

    `name` has the same form as in an object's path. The response must be sent in the tenant's
    scope. Raises `FileUnknown` if the object does not exist.
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
