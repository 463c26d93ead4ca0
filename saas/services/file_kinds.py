"""What a file is that was sent as CSV and is none: a workbook, an archive, a page."""

from __future__ import annotations

import re
from typing import Final

import chardet

HEAD_BYTES: Final = 4096

_WORKBOOK: Final = (
    "a workbook ({}), not a CSV file. Open it and save the sheet with the contacts as CSV "
    '("CSV UTF-8"), then import that.'
)
_ARCHIVE: Final = "an archive or compressed ({}). Unpack it, and import the CSV file that is in it."
_OTHER: Final = "{}, not a CSV file. Export the contacts as CSV, and import that."

# What chardet does not know, or names by what is around it.
_SIGNATURES: Final = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _WORKBOOK.format("old Excel, or one with a password")),
    (b"\x09\x08\x10\x00\x00\x06\x05\x00", _WORKBOOK.format("old Excel")),
    (b"\x28\xb5\x2f\xfd", _ARCHIVE.format("Zstandard")),
    (b"\x04\x22\x4d\x18", _ARCHIVE.format("LZ4")),
    (b"\x1f\x9d", _ARCHIVE.format("compress")),
    (b"\x1f\x8b", _ARCHIVE.format("gzip")),
    (b"BZh", _ARCHIVE.format("bzip2")),
    (b"\xfd7zXZ\x00", _ARCHIVE.format("xz")),
    (b"7z\xbc\xaf\x27\x1c", _ARCHIVE.format("7-Zip")),
    (b"Rar!\x1a\x07", _ARCHIVE.format("RAR")),
    (b"%PDF-", _OTHER.format("a PDF")),
    (b"{\\rtf", _OTHER.format("a document (RTF)")),
    (b"PAR1", _OTHER.format("a Parquet file")),
    (b"ARROW1", _OTHER.format("an Arrow file")),
    (b"Obj\x01", _OTHER.format("an Avro file")),
    (b"SQLite format 3\x00", _OTHER.format("an SQLite database")),
    (b"PMDMP", _OTHER.format("a PostgreSQL dump")),
    (b"PGCOPY\n\xff\r\n\x00", _OTHER.format("PostgreSQL's binary COPY")),
)
_ZIPS: Final = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_INSIDE_ZIP: Final = (  # names of members, as they stand in its first bytes
    (
        rb"mimetypeapplication/vnd\.oasis\.opendocument\.spreadsheet",
        _WORKBOOK.format("OpenDocument"),
    ),
    (rb"Index/(Document|Tables/)", _WORKBOOK.format("Numbers")),
    (rb"\bword/", _OTHER.format("a document (Word)")),
    (rb"\bppt/", _OTHER.format("a presentation (PowerPoint)")),
    (rb"\[Content_Types\]\.xml|\bxl/|_rels/\.rels", _WORKBOOK.format("Excel")),
)
_TAR: Final = 257  # where its header says so
_TEXTS: Final = (
    (r"<\?xml[^>]*>\s*(<\?mso-application[^>]*>\s*)?<(ss:)?Workbook\b", _WORKBOOK.format("XML")),
    (r"<(!doctype html|html|head|body|table|div|meta)\b", _OTHER.format("a web page (HTML)")),
    (r"<(\?xml|!doctype|[a-z][\w:.-]*[\s>/])", _OTHER.format("XML")),
    (r"\[\s*([\[{\"]|\])|\{\s*(\"|\})", _OTHER.format("JSON")),
    (r"BEGIN:(VCARD|VCALENDAR)\b", _OTHER.format("an address book (vCard) or calendar")),
    (r"From \S+@\S+ |(Received|Return-Path|MIME-Version|Message-ID): ", _OTHER.format("a mail")),
    (r"dn:{1,2} ?\S", _OTHER.format("a directory's export (LDIF)")),
    (r"(insert into|create table|copy) [\w.\"`]+ ?[(\w]", _OTHER.format("SQL")),
    (r"#!|%!PS|ID;P", _OTHER.format("a program or document")),
)
_text_kinds: Final = [(re.compile(rf"\s*{each}", re.IGNORECASE), what) for each, what in _TEXTS]


def binary_kind(head: bytes) -> str | None:
    """What a file is whose first bytes are no text, and what to do; None where they may be.

    `head` is at least the first `HEAD_BYTES` of it, or all.
    """
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    if head.startswith(_ZIPS):
        return _zip_kind(head)
    if head[_TAR : _TAR + 5] == b"ustar":
        return _ARCHIVE.format("tar")
    mime = _mime(head)
    if mime.startswith(("image/", "audio/", "video/", "font/")):
        return _OTHER.format(f"{mime.partition('/')[0]} ({mime.partition('/')[2]})")
    return None


def is_binary(head: bytes) -> bool:
    """Whether `binary_kind` says what it is."""
    return binary_kind(head) is not None


def text_kind(head: str) -> str | None:
    """What a file is whose first characters are no list of columns, and what to do."""
    return next((kind for match, kind in _text_kinds if match.match(head)), None)


def _zip_kind(head: bytes) -> str:
    for name, kind in _INSIDE_ZIP:
        if re.search(name, head):
            return kind
    return _ARCHIVE.format("zip")


def _mime(head: bytes) -> str:
    """As chardet has it; text where it cannot tell."""
    if not any(byte < 9 or byte > 126 for byte in head[:64]):
        return "text/plain"
    return str(chardet.detect(head[:HEAD_BYTES])["mime_type"] or "text/plain")
