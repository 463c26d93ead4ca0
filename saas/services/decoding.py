"""Decodes a file chunk by chunk, and tells how many bytes each part of the text took.

Bytes that cannot be decoded become lone surrogates, which valid text never contains.
"""

from __future__ import annotations

import codecs
import re
from collections import deque
from collections.abc import Sequence
from typing import Final

from saas.services.encodings import UTF8, WINDOWS

# As browsers do, bytes that the code page leaves undefined become the character of that number.
_WINDOWS_TABLE: Final = "".join(
    bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in range(256)
)
_WIDE_BYTES: Final = {"utf-16-le": 2, "utf-16-be": 2, "utf-32-le": 4, "utf-32-be": 4}
_EAST_ASIAN: Final = (
    "big5",
    "cp932",
    "cp949",
    "cp950",
    "euc",
    "gb18030",
    "iso2022",
    "johab",
    "shift",
)
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_HALF: Final = "\udfff"  # "surrogateescape" never produces it
_BROKEN: Final = "contact-files.broken"


class Decoder:
    """Decodes a file chunk by chunk."""

    def __init__(self, encoding: str) -> None:
        """`encoding` is a name from `named_encoding`; UTF-16 and UTF-32 with their byte order."""
        self.found_broken = False  # whether the last chunk had undecodable bytes
        self._decoder = codecs.getincrementaldecoder(encoding)("strict")
        self._lenient = "surrogateescape"

    def decode(self, piece: bytes, final: bool = False) -> str:
        """Returns the text of the next chunk; an incomplete character comes with a later chunk."""
        before = self._decoder.getstate()
        try:
            self.found_broken = False
            return self._decoder.decode(piece, final)
        except UnicodeDecodeError:
            self.found_broken = True
            self._decoder.setstate(before)
            self._decoder.errors = self._lenient
            text = self._decoder.decode(piece, final)
            self._decoder.errors = "strict"
            return text

    def size(self, lines: Sequence[str]) -> int:
        """Returns the size in bytes of the next lines; ask once for each line, in order."""
        return sum(map(len, lines))


class _Utf8(Decoder):
    def size(self, lines: Sequence[str]) -> int:
        text = "".join(lines)
        return len(text) if text.isascii() else len(text.encode("utf-8", "surrogateescape"))


class _Windows(Decoder):
    def decode(self, piece: bytes, final: bool = False) -> str:
        return codecs.charmap_decode(piece, "strict", _WINDOWS_TABLE)[0]


class _Wide(Decoder):
    def __init__(self, encoding: str) -> None:
        super().__init__(encoding)
        self._lenient = _BROKEN
        self._bytes = _WIDE_BYTES[encoding]

    def size(self, lines: Sequence[str]) -> int:
        if self._bytes == 4:
            return 4 * sum(map(len, lines))
        return sum(len(line.encode("utf-16-le", "surrogatepass")) for line in lines)


class _ManyBytes(Decoder):
    """Counts bytes up to each line end, as several byte sequences may mean the same text."""

    def __init__(self, encoding: str) -> None:
        super().__init__(encoding)
        self._lenient = _BROKEN
        self._ends: deque[int] = deque()  # sizes of complete lines, in bytes
        self._since_end = 0
        self._return = False  # whether the last byte is a CR, which an LF may follow

    def decode(self, piece: bytes, final: bool = False) -> str:
        content = b"\r" + piece if self._return else piece
        before = self._since_end - self._return
        self._return = content.endswith(b"\r") and not final
        done = 0
        for match in _LINE_END.finditer(content, 0, len(content) - self._return):
            self._ends.append(before + match.end() - done)
            before, done = 0, match.end()
        self._since_end = before + len(content) - done
        return super().decode(piece, final)

    def size(self, lines: Sequence[str]) -> int:
        ended = sum(line.endswith(("\n", "\r")) for line in lines)
        return sum(self._ends.popleft() for _ in range(ended))


def decoder_of(encoding: str) -> Decoder:
    """Returns a decoder that starts at the beginning of a line."""
    if encoding == UTF8:
        return _Utf8(encoding)
    if encoding == WINDOWS:
        return _Windows(encoding)
    if encoding in _WIDE_BYTES:
        return _Wide(encoding)
    name = codecs.lookup(encoding).name
    return _ManyBytes(encoding) if name.startswith(_EAST_ASIAN) else Decoder(encoding)


def _broken(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    first = error.object[error.start : error.start + 1].decode("latin-1")
    return (first, error.start + 1) if first in ("\r", "\n") else (_HALF, error.end)


codecs.register_error(_BROKEN, _broken)


_UNREADABLE: Final = re.compile("[\0\ud800-\udfff]")


def unreadable(text: str, encoding: str) -> str | None:
    """Returns why a text decoded as `encoding` is unreadable, or None if it is fine."""
    found = _UNREADABLE.search(text)
    if found is None:
        return None
    code = ord(found[0])
    if code == 0:
        return "it has a NUL byte"
    byte = f" (0x{code - 0xDC00:02X})" if 0xDC80 <= code <= 0xDCFF else ""
    return f"it has bytes that are not {encoding}{byte}"


def readable(text: str) -> str:
    """Returns `text` with a replacement character for each unreadable one."""
    return _UNREADABLE.sub("\ufffd", text)
