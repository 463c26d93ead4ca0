"""Files sent as CSV that are something else."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile

import pyarrow
import pytest
from pyarrow import parquet

from saas.services.file_kinds import binary_kind, has_no_text, text_kind


def zipped(*names: str, content: bytes = b"x") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in names:
            file.writestr(name, content)
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        file.addfile(tarfile.TarInfo("contacts.csv"))
    return buffer.getvalue()


def as_parquet() -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.table({"email": ["a@b.test"]}), buffer)
    return buffer.getvalue()


EXCEL = ("[Content_Types].xml", "xl/workbook.xml")
ODS = "application/vnd.oasis.opendocument.spreadsheet"


@pytest.mark.parametrize(
    ("head", "kind", "advice"),
    [
        (zipped(*EXCEL), "a workbook (Excel)", "save the sheet"),
        (zipped("mimetype", content=ODS.encode()), "a workbook (OpenDocument)", "save the sheet"),
        (zipped("Index/Document.iwa"), "a workbook (Numbers)", "save the sheet"),
        (zipped("contacts.csv"), "an archive", "Unpack it"),
        (zipped(), "an archive", "Unpack it"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 100, "a workbook (old Excel", "save the"),
        (gzip.compress(b"email\n", mtime=0), "an archive or compressed (gzip)", "Unpack it"),
        (bz2.compress(b"email\n"), "an archive or compressed (bzip2)", "Unpack it"),
        (lzma.compress(b"email\n"), "an archive or compressed (xz)", "Unpack it"),
        (b"\x28\xb5\x2f\xfd\x04\x00", "an archive or compressed (Zstandard)", "Unpack it"),
        (tarred(), "an archive or compressed (tar)", "Unpack it"),
        (b"%PDF-1.7\n%\xe2\xe3", "a PDF", "Export the contacts as CSV"),
        (as_parquet(), "a Parquet file", "Export the contacts as CSV"),
        (b"SQLite format 3\0", "an SQLite database", "Export the contacts as CSV"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + b"\0" * 30, "image (png)", "Export the contacts"),
    ],
)
def test_what_is_no_text_is_called_by_its_name(head: bytes, kind: str, advice: str) -> None:
    found = binary_kind(head)
    assert found is not None
    assert found.startswith(kind)
    assert advice in found


@pytest.mark.parametrize(
    "head", [b"", b"email,name\n", "E-Mail;Größe\n".encode("cp1252"), b"\xff\xfee\0m\0", b"\0e\0m"]
)
def test_what_may_be_text_is_not(head: bytes) -> None:
    assert binary_kind(head) is None


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        ("<!DOCTYPE html><html>", "a web page (HTML)"),
        ("\n  <table><tr><td>email", "a web page (HTML)"),
        ('<?xml version="1.0"?>\n<?mso-application progid="Excel.Sheet"?><Workbook', "a workbook"),
        ('<?xml version="1.0"?><contacts>', "XML"),
        ('[{"email": "a@b.test"}]', "JSON"),
        ('{"email": "a@b.test"}\n{"email": "b@b.test"}', "JSON"),
        ("BEGIN:VCARD\r\nVERSION:3.0", "an address book"),
        ("dn: cn=Ann,dc=acme", "a directory's export"),
        ("INSERT INTO contacts (email) VALUES", "SQL"),
        ("{\\rtf1\\ansi", None),
    ],
)
def test_a_text_that_is_no_table_is_called_by_its_name(head: str, kind: str | None) -> None:
    found = text_kind(head)
    assert found is None if kind is None else found is not None and found.startswith(kind)


@pytest.mark.parametrize("head", ["email,name", "{name},email", "[x],y", "From,To", "a<b,c"])
def test_what_may_be_a_header_is_not(head: str) -> None:
    assert text_kind(head) is None


def test_what_is_mostly_control_characters_is_no_text() -> None:
    assert has_no_text(bytes(range(256)) * 8)
    assert has_no_text(b"\x01\x02\x03")
    for text in (b"", b"email\r\n\tx", "Größe\n".encode("cp1252"), b"\x1b$B;3ED\x1b(B"):
        assert not has_no_text(text)
