"""A strict HTTP/1.1 parser: it rejects messages that another program could read differently.

A proxy in front of the door may see two requests where the door sees one, or the reverse, and so
miss one (request smuggling). h11 tolerates some of these messages, as RFC 9112 allows.
"""

from __future__ import annotations

import re
from typing import Final

import h11
from h11._receivebuffer import ReceiveBuffer

VERSIONS: Final = (b"1.0", b"1.1")
TOO_LARGE: Final = 431
REFUSED: Final = 400

_END: Final = b"\r\n\r\n"
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")


class StrictConnection(h11.Connection):
    """The server side of a connection."""

    def __init__(self, *, head_max_bytes: int, headers_max: int) -> None:
        super().__init__(h11.SERVER, head_max_bytes)
        self._receive_buffer: ReceiveBuffer = _StrictBuffer(
            head_max_bytes=head_max_bytes, headers_max=headers_max
        )
        self.refusal = REFUSED  # the status for a message that was rejected

    @property
    def has_more(self) -> bool:
        """Whether unparsed bytes have arrived."""
        return len(self._receive_buffer) > 0

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Like h11's, but raises `h11.RemoteProtocolError` also for messages that h11 tolerates."""
        try:
            event = super().next_event()
        except h11.RemoteProtocolError as error:
            self.refusal = TOO_LARGE if error.error_status_hint == TOO_LARGE else REFUSED
            raise
        if isinstance(event, h11.Request):
            _check_request(event)
        return event


class _StrictBuffer(ReceiveBuffer):
    """A buffer for heads and trailers whose lines must end with CRLF and must not be folded."""

    def __init__(self, *, head_max_bytes: int, headers_max: int) -> None:
        super().__init__()
        self._head_max_bytes = head_max_bytes
        self._headers_max = headers_max

    def maybe_extract_lines(self) -> list[bytearray] | None:
        """Like h11's, which also accepts a bare LF as a line ending."""
        if self._data[:2] == b"\r\n":
            self._extract(2)
            return []
        end = self._data.find(_END, self._multiple_lines_search)
        seen = len(self._data) if end < 0 else end
        if _BARE_LF.search(self._data, self._multiple_lines_search, seen):
            raise h11.LocalProtocolError("a line that ends without a carriage return")
        if seen > self._head_max_bytes:
            raise h11.LocalProtocolError("too long a head", error_status_hint=TOO_LARGE)
        if end < 0:
            self._multiple_lines_search = max(0, seen - len(_END) + 1)
            return None
        lines = self._extract(end + len(_END))[:end].split(b"\r\n")
        _check_lines(lines, self._headers_max)
        return lines


def _check_lines(lines: list[bytearray], headers_max: int) -> None:
    """Raises `h11.LocalProtocolError` for a head that two parsers could read differently."""
    if len(lines) > headers_max + 1:
        raise h11.LocalProtocolError("too many headers", error_status_hint=TOO_LARGE)
    if any(line.startswith((b" ", b"\t")) for line in lines):
        raise h11.LocalProtocolError("a header that goes on in the next line")
    names = [bytes(line.partition(b":")[0]).lower() for line in lines]
    if names.count(b"content-length") + names.count(b"transfer-encoding") > 1:
        raise h11.LocalProtocolError("more than one length of the body")
    if names.count(b"content-type") > 1:
        raise h11.LocalProtocolError("more than one type of the body")
    length = lines[names.index(b"content-length")] if b"content-length" in names else b":0"
    if not length.partition(b":")[2].strip(b" \t").isdigit():
        raise h11.LocalProtocolError("a length of the body that is no number")


def _check_request(request: h11.Request) -> None:
    if request.http_version not in VERSIONS:
        raise h11.RemoteProtocolError("another version of HTTP")
    chunked = any(name == b"transfer-encoding" for name, _ in request.headers)
    if chunked and request.http_version == b"1.0":
        raise h11.RemoteProtocolError("a transfer coding in HTTP/1.0")
