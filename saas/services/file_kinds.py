"""Recognises files that were sent as CSV but are something else: workbooks, archives, web pages."""

from __future__ import annotations

import re
from typing import Final

import chardet

HEAD_BYTES: Final = 4096

_WORKBOOK: Final = (
    "a workbook ({}), not a CSV file. Open it, save the sheet with the contacts as CSV "
    '("CSV UTF-8"), and import that file.'
)
_ARCHIVE: Final = "an archive or compressed ({}). Unpack it, and import the CSV file in it."
_OTHER: Final = "{}, not a CSV file. Export the contacts as CSV, and import that file."

# Formats that chardet does not know, or takes for their container.
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
_INSIDE_ZIP: Final = (  # names of archive members among its first bytes
    (
        rb"mimetypeapplication/vnd\.oasis\.opendocument\.spreadsheet",
        _WORKBOOK.format("OpenDocument"),
    ),
    (rb"Index/(Document|Tables/)", _WORKBOOK.format("Numbers")),
    (rb"\bword/", _OTHER.format("a document (Word)")),
    (rb"\bppt/", _OTHER.format("a presentation (PowerPoint)")),
    (rb"\[Content_Types\]\.xml|\bxl/|_rels/\.rels", _WORKBOOK.format("Excel")),
)
_TAR: Final = 257  # the offset of "ustar" in a tar header
_TEXTS: Final = (
    (r"<\?xml[^>]*>\s*(<\?mso-application[^>]*>\s*)?<(ss:)?Workbook\b", _WORKBOOK.format("XML")),
    (r"<(!doctype html|html|head|body|table|div|meta)\b", _OTHER.format("a web page (HTML)")),
    (r"<(\?xml|!doctype|[a-z][\w:.-]*[\s>/])", _OTHER.format("XML")),
    (r"\[\s*([\[{\"]|\])|\{\s*(\"|\})", _OTHER.format("JSON")),
    (r"BEGIN:(VCARD|VCALENDAR)\b", _OTHER.format("an address book (vCard) or calendar")),
    (
        r"From [^\s@]+@\S+ |(Received|Return-Path|MIME-Version|Message-ID): ",
        _OTHER.format("a mail"),
    ),
    (r"dn:{1,2} ?\S", _OTHER.format("a directory's export (LDIF)")),
    (r"(insert into|create table|copy) [\w.\"`]+ ?[(\w]", _OTHER.format("SQL")),
    (r"#!|%!PS|ID;P", _OTHER.format("a program or document")),
)
_text_kinds: Final = [(re.compile(rf"\s*{each}", re.IGNORECASE), what) for each, what in _TEXTS]


def binary_kind(head: bytes) -> str | None:
    """Returns what a binary file is, with advice, or None if it may be text.

    `head` is at least the first `HEAD_BYTES` of the file, or all of it.
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
    """Whether `binary_kind` recognises it."""
    return binary_kind(head) is not None


def text_kind(head: str) -> str | None:
    """Returns what a text file without a header is, with advice, or None if it is not known."""
    return next((kind for match, kind in _text_kinds if match.match(head)), None)


def _zip_kind(head: bytes) -> str:
    for name, kind in _INSIDE_ZIP:
        if re.search(name, head):
            return kind
    return _ARCHIVE.format("zip")


def _mime(head: bytes) -> str:
    """Returns chardet's answer, or text/plain if it has none."""
    if not any(byte < 9 or byte > 126 for byte in head[:64]):
        return "text/plain"
    return str(chardet.detect(head[:HEAD_BYTES])["mime_type"] or "text/plain")
