"""What reads a tenant's text takes time in proportion to it, whatever is in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from activities.contact_rows import Columns, judge
from saas.services.addresses import normal_address, trimmed
from saas.services.contact_columns import layout_of
from saas.services.csv_files import FileRefused, RecordParser
from saas.services.decoding import decoder_of
from saas.services.delimiters import Dialect, choose_dialect
from saas.services.encodings import Sniffer
from saas.services.file_kinds import binary_kind, text_kind
from saas.services.shown import shown
from temporal_tenancy.core import redacted
from temporal_tenancy.core.csv_safety import original_cell, safe_cell
from temporal_tenancy.dead_letters.fingerprints import fingerprint

SIZE = 8_000  # characters; a quadratic reader takes 64 million steps for them
QUICK = 0.02  # seconds of CPU; a reader that takes less is not measured again
GROWTH = 4
AT_MOST = 9.0  # times the CPU for 4 times the text: 16 if it is quadratic

CELLS = (
    *("a", " ", "\t", ",", ";", '"', "'", "=", "@", ".", "-", "_", "0", "\n", "\r", "é", "\u200b"),
    *("a.", "a@", "a,", "é,", '",', '"\n', '""', "a\n", "é\n", ",\n", "\r\n", "=;", ";'", "://a:"),
    *("“", "«", "[parameters: ", "password ", "From a@", "<a ", "<?xml ", "copy a", "sep=,"),
)
BEFORE_AND_BEHIND = (("", ""), ("é\n", ""), ("", "\né"), ("é", "x"), ("a@", "!"), ("\0", "é"))


def taken(reader: Callable[[str], object], text: str) -> float:
    began = time.thread_time()
    reader(text)
    return time.thread_time() - began


def slow(reader: Callable[[str], object], made: Callable[[int], str]) -> str | None:
    """Returns how much more CPU the reader takes for a text 4 times as long, if it is too much."""
    if taken(reader, made(SIZE)) < QUICK:
        return None
    before = min(taken(reader, made(SIZE)) for _ in range(3))
    after = min(taken(reader, made(SIZE * GROWTH)) for _ in range(2))
    return None if after <= AT_MOST * before else f"{before:.3f} s, then {after:.3f} s"


def texts() -> Iterator[tuple[str, Callable[[int], str]]]:
    for cell in CELLS:
        for before, behind in BEFORE_AND_BEHIND:

            def made(
                size: int, cell: str = cell, before: str = before, behind: str = behind
            ) -> str:
                return before + cell * (size // len(cell)) + behind

            yield f"{before!r} {cell!r}… {behind!r}", made


def sniffed(text: str) -> None:
    for encoding in ("utf-8", "cp1252"):
        content = text.encode(encoding, "replace")
        for step in (len(content), 4096, 61):
            sniffer = Sniffer()
            for at in range(0, len(content), step):
                sniffer.feed(content[at : at + step])
            sniffer.feed(b"", final=True)


def parsed(text: str) -> None:
    parser = RecordParser("utf-8", dialect=Dialect(","))
    content = text.encode()
    for at in range(0, len(content), 1024):
        parser.feed(content[at : at + 1024])
        while parser.take(1_000):
            pass
    parser.feed(b"", final=True)
    while parser.take(1_000):
        pass


def checked(text: str) -> None:
    columns = Columns(["email", "name"])
    columns.check([(1, [text, text], None), (2, [f"a@b.test{text}", text], None)])


def headed(text: str) -> None:
    for header in ([text], text.split(",")):
        with suppress(FileRefused):
            layout_of(header)


def addressed(text: str) -> None:
    with suppress(ValueError):
        normal_address(text)


READERS: dict[str, Callable[[str], object]] = {
    "Sniffer": sniffed,
    "RecordParser": parsed,
    "Columns.check": checked,
    "layout_of": headed,
    "choose_dialect": lambda text: choose_dialect(text.splitlines()[:100], judge),
    "decoder_of": lambda text: decoder_of("cp932").decode(text.encode("cp932", "replace"), True),
    "binary_kind": lambda text: binary_kind(text.encode()),
    "text_kind": text_kind,
    "safe_cell": safe_cell,
    "original_cell": original_cell,
    "trimmed": trimmed,
    "normal_address": addressed,
    "shown": shown,
    "redacted": redacted,
    "fingerprint": lambda text: fingerprint("a.b", "E", text, tenant_id="acme"),
}


@pytest.mark.parametrize("name", READERS)
def test_a_reader_takes_time_in_proportion_to_the_text(name: str) -> None:
    for what, made in texts():  # the first one is enough: a quadratic reader takes minutes
        assert slow(READERS[name], made) is None, what
