"""Files as browsers and programs send them, read as they come: no more than a piece is held."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, MultipartState, parse_options_header

from web.bodies import pieces_of
from web.refusals import BodyTooLarge, InvalidRequest, MediaTypeRefused

FORM: Final = "multipart/form-data"
RAW: Final = ("text/csv", "text/plain", "application/octet-stream", "application/csv")
FIELD: Final = "file"
FRAME_BYTES: Final = 64 * 1024  # of a form, around the file
NAME_MISSING: Final = "contacts.csv"

_Event = tuple[Literal["headers", "data", "end"], bytes]


@dataclass(frozen=True)
class Upload:
    """A file that is being sent."""

    file_name: str
    pieces: AsyncIterator[bytes]  # raises where the rest cannot be taken


@asynccontextmanager
async def receiving(
    request: Request, max_bytes: int, seconds: float, *, file_name: str | None
) -> AsyncIterator[Upload]:
    """Yields the file in the request's body: the body itself, or the field `file` of a form.

    Args:
        request: whose body has not been read.
        max_bytes: of the file.
        seconds: in which all of it has to come.
        file_name: of a body that is the file itself.

    Raises, here or as the pieces are read:
        MediaTypeRefused: the content type is neither a form's nor a file's.
        InvalidRequest: the form is not well-formed, or has not exactly that one field.
        BodyTooLarge, BodyTimeout, ClientDisconnect: as `pieces_of`.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind.decode("latin-1") == FORM:
        boundary = options.get(b"boundary", b"")
        if not boundary:
            raise InvalidRequest("the form names no boundary.")
        async with aclosing(pieces_of(request, max_bytes + FRAME_BYTES, seconds)) as body:
            events = _events(body, boundary)
            name = await _file_begins(events)
            async with aclosing(_file(events, max_bytes)) as pieces:
                yield Upload(name, pieces)
    elif kind.decode("latin-1") in RAW:
        async with aclosing(pieces_of(request, max_bytes, seconds)) as body:
            yield Upload(file_name or NAME_MISSING, body)
    else:
        raise MediaTypeRefused(
            f"a file is sent as {FORM}, in a field {FIELD!r}, or as the body itself, with a "
            f"content type of {', '.join(RAW)}."
        )


async def _file_begins(events: AsyncIterator[_Event]) -> str:
    """The file's name, once its content is what comes next."""
    async for kind, headers in events:
        _, options = parse_options_header(headers)
        if kind == "headers" and options.get(b"name") == FIELD.encode() and b"filename" in options:
            return options[b"filename"].decode(errors="replace") or NAME_MISSING
        break
    raise _other_fields()


async def _file(events: AsyncIterator[_Event], max_bytes: int) -> AsyncGenerator[bytes]:
    size = 0
    async for kind, data in events:
        if kind == "headers":
            raise _other_fields()
        size += len(data)
        if size > max_bytes:
            raise BodyTooLarge(f"the file is larger than {max_bytes:,} bytes.")
        if data:
            yield data


def _other_fields() -> InvalidRequest:
    return InvalidRequest(
        f"the form is to have one field, a file called {FIELD!r}. Whose it is comes from the key, "
        "and options are part of the address."
    )


async def _events(body: AsyncIterator[bytes], boundary: bytes) -> AsyncIterator[_Event]:
    """What the form's parts say of themselves (their Content-Disposition), and hold."""
    found: deque[_Event] = deque()
    header = bytearray()
    disposition = bytearray()
    value = bytearray()

    def ends_header() -> None:
        if bytes(header).lower() == b"content-disposition":
            disposition[:] = value
        header.clear()
        value.clear()

    def ends_headers() -> None:
        found.append(("headers", bytes(disposition)))
        disposition.clear()

    try:
        parser = MultipartParser(
            boundary,
            {
                "on_header_field": lambda data, start, end: header.extend(data[start:end]),
                "on_header_value": lambda data, start, end: value.extend(data[start:end]),
                "on_header_end": ends_header,
                "on_headers_finished": ends_headers,
                "on_part_data": lambda data, start, end: found.append(("data", data[start:end])),
                "on_part_end": lambda: found.append(("end", b"")),
            },
        )
        async for piece in body:
            parser.write(piece)
            while found:
                yield found.popleft()
        parser.finalize()
    except FormParserError:
        raise InvalidRequest("the form is not well-formed.") from None
    if parser.state is not MultipartState.END:
        raise InvalidRequest("the form ends in its midst. Send it again.")
