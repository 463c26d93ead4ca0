"""Reads uploaded files as they arrive, with at most one chunk in memory."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, MultipartState, parse_options_header

from processes.web.bodies import pieces_of
from processes.web.refusals import BodyTooLarge, InvalidRequest, MediaTypeRefused

FORM: Final = "multipart/form-data"
RAW: Final = (
    *("text/csv", "text/plain", "application/octet-stream", "application/csv"),
    *("text/tab-separated-values", "application/vnd.ms-excel"),  # what browsers on Windows send
)
FIELD: Final = "file"
FRAME_BYTES: Final = 64 * 1024  # of the form around the file
NAME_MISSING: Final = "contacts.csv"

ENCODING_FIELD: Final = "encoding"
ENCODING_MAX_BYTES: Final = 100

_Event = tuple[Literal["headers", "data", "end"], bytes, bytes]


@dataclass
class Upload:
    """A file that is being uploaded."""

    file_name: str
    pieces: AsyncIterator[bytes]  # chunks; raises if the rest is not accepted
    charset: str | None = None  # from the file's content type
    encoding: str | None = None  # from the form's field, which may follow the file

    def named_encoding(self) -> str | None:
        """Returns the encoding that the sender named; call it after the last chunk."""
        return self.encoding or self.charset


@asynccontextmanager
async def receiving(
    request: Request, max_bytes: int, seconds: float, *, file_name: str | None
) -> AsyncIterator[Upload]:
    """Yields the file in the request's body: the body itself, or the field `file` of a form.

    Args:
        request: a request whose body has not been read.
        max_bytes: the maximum size of the file.
        seconds: the time limit for the whole body.
        file_name: the name of a file that is the body itself.

    Raises, here or while the chunks are read:
        MediaTypeRefused: the content type is neither a form's nor a file's.
        InvalidRequest: the form is malformed, or has fields other than `file` and `encoding`.
        BodyTooLarge, BodyTimeout, ClientDisconnect: as for `pieces_of`.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind.decode("latin-1") == FORM:
        boundary = options.get(b"boundary", b"")
        if not boundary:
            raise InvalidRequest("the form has no boundary.")
        async with aclosing(pieces_of(request, max_bytes + FRAME_BYTES, seconds)) as body:
            events = _events(body, boundary)
            upload = Upload(NAME_MISSING, _nothing())
            await _file_begins(events, upload)
            async with aclosing(_file(events, upload, max_bytes)) as pieces:
                upload.pieces = pieces
                yield upload
    elif kind.decode("latin-1") in RAW:
        async with aclosing(pieces_of(request, max_bytes, seconds)) as body:
            yield Upload(file_name or NAME_MISSING, body, charset=_charset(options))
    else:
        raise MediaTypeRefused(
            f"send the file as {FORM}, in a field {FIELD!r}, or as the body itself, with the "
            f"content type {', '.join(RAW[:-1])} or {RAW[-1]}."
        )


async def digested(pieces: AsyncIterator[bytes], digest: hashlib._Hash) -> AsyncIterator[bytes]:
    """Yields the chunks, and adds each to `digest`."""
    async for piece in pieces:
        digest.update(piece)
        yield piece


async def _file_begins(events: AsyncIterator[_Event], upload: Upload) -> None:
    """Reads the form up to the file's content."""
    async for kind, disposition, content_type in events:
        _, options = parse_options_header(disposition)
        if kind == "headers" and options.get(b"name") == ENCODING_FIELD.encode():
            await _read_encoding(events, upload)
            continue
        if kind == "headers" and options.get(b"name") == FIELD.encode() and b"filename" in options:
            upload.file_name = options[b"filename"].decode(errors="replace") or NAME_MISSING
            upload.charset = _charset(parse_options_header(content_type)[1])
            return
        break
    raise _other_fields()


async def _file(
    events: AsyncIterator[_Event], upload: Upload, max_bytes: int
) -> AsyncGenerator[bytes]:
    size = 0
    async for kind, data, _ in events:
        if kind == "headers":
            _, options = parse_options_header(data)
            if options.get(b"name") != ENCODING_FIELD.encode():
                raise _other_fields()
            await _read_encoding(events, upload)
        elif kind == "data" and data:
            size += len(data)
            if size > max_bytes:
                raise BodyTooLarge(f"the file is larger than {max_bytes:,} bytes.")
            yield data


async def _read_encoding(events: AsyncIterator[_Event], upload: Upload) -> None:
    if upload.encoding is not None:
        raise _other_fields()
    value = b""
    async for kind, data, _ in events:
        if kind == "end":
            break
        value += data
        if len(value) > ENCODING_MAX_BYTES:
            raise InvalidRequest(f"the field {ENCODING_FIELD!r} must be the name of an encoding.")
    upload.encoding = value.decode(errors="replace").strip()


def _charset(options: dict[bytes, bytes]) -> str | None:
    return options.get(b"charset", b"").decode("latin-1").strip() or None


async def _nothing() -> AsyncGenerator[bytes]:
    return
    yield b""


def _other_fields() -> InvalidRequest:
    return InvalidRequest(
        f"the form must have a file in the field {FIELD!r}, optionally its encoding in the field "
        f"{ENCODING_FIELD!r}, and no other field. The tenant is the key's, and options are part of "
        "the URL."
    )


async def _events(body: AsyncIterator[bytes], boundary: bytes) -> AsyncIterator[_Event]:
    """Yields the parts of the form: their Content-Disposition and Content-Type, then their data."""
    found: deque[_Event] = deque()
    header = bytearray()
    disposition = bytearray()
    content_type = bytearray()
    value = bytearray()

    def ends_header() -> None:
        if bytes(header).lower() == b"content-disposition":
            disposition[:] = value
        elif bytes(header).lower() == b"content-type":
            content_type[:] = value
        header.clear()
        value.clear()

    def ends_headers() -> None:
        found.append(("headers", bytes(disposition), bytes(content_type)))
        disposition.clear()
        content_type.clear()

    try:
        parser = MultipartParser(
            boundary,
            {
                "on_header_field": lambda data, start, end: header.extend(data[start:end]),
                "on_header_value": lambda data, start, end: value.extend(data[start:end]),
                "on_header_end": ends_header,
                "on_headers_finished": ends_headers,
                "on_part_data": lambda data, start, end: found.append(
                    ("data", data[start:end], b"")
                ),
                "on_part_end": lambda: found.append(("end", b"", b"")),
            },
        )
        async for piece in body:
            parser.write(piece)
            while found:
                yield found.popleft()
        parser.finalize()
    except FormParserError:
        raise InvalidRequest("the form is malformed.") from None
    if parser.state is not MultipartState.END:
        raise InvalidRequest("the form is incomplete. Send it again.")
