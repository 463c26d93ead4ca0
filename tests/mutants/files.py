"""The mutants of files: faults in how files and their encodings are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from activities import contact_rows
from saas.services import addresses, csv_files, encodings
from saas.services.csv_files import Record, RecordParser
from tests.mutants.mutant import Mutant, replace

READING: Final = "tests/saas/services/test_csv_files.py"
ANY_BYTES: Final = "tests/saas/services/test_any_file.py"
ENCODINGS: Final = "tests/saas/services/test_encodings.py"
ROWS: Final = "tests/saas/jobs/test_contact_rows.py"
ADDRESSES: Final = "tests/saas/services/test_addresses.py"


def _take_bytes_that_cannot_be_read() -> None:
    replace(csv_files, "unreadable", lambda text, encoding: None)


def _guess_the_encoding() -> None:
    replace(encodings, "_is_sure", lambda found, words: True)


def _show_what_a_terminal_obeys() -> None:
    replace(encodings, "shown", lambda text, characters: text)


def _read_on_behind_a_quote() -> None:
    def spoil_its_line(self: RecordParser, found: list[Record]) -> bool:
        found.append((self.line + 1, [self._lines[0].rstrip("\r\n")], "its quotes are invalid"))
        self._advance(1)
        return True

    replace(RecordParser, "_scan", spoil_its_line)


def _go_on_within_a_long_row() -> None:
    def forgetful(self: RecordParser, lines: int) -> None:
        passing, self._passing = self._passing, None
        real(self, lines)
        self._passing = passing

    real = RecordParser._advance
    replace(RecordParser, "_advance", forgetful)


def _take_every_file_for_ours() -> None:
    def of_ours(self: Any, header: Sequence[str]) -> None:
        real(self, header)
        self._is_ours = True

    real = contact_rows.Columns.__init__
    replace(contact_rows.Columns, "__init__", of_ours)


def _read_ours_as_everybody_elses() -> None:
    replace(contact_rows, "original_cell", lambda cell: cell)


def _take_domains_by_idna_2003() -> None:
    replace(addresses, "_ascii_domain", lambda domain: domain.encode("idna").decode())


FILE_FAULTS: Final = [
    Mutant(
        "unreadable bytes",
        "bytes that cannot be decoded are imported",
        (f"{READING}::test_bytes_that_cannot_be_read_spoil_their_own_row_only",),
        _take_bytes_that_cannot_be_read,
    ),
    Mutant(
        "guessed encoding",
        "an uncertain encoding is guessed",
        (
            f"{ENCODINGS}::test_what_is_not_asked_about_is_right_and_else_the_right_one_is_among"
            "_the_candidates",
        ),
        _guess_the_encoding,
    ),
    Mutant(
        "raw sample",
        "the samples of candidates keep control characters",
        (f"{ENCODINGS}::test_a_sample_shows_nothing_that_a_terminal_obeys",),
        _show_what_a_terminal_obeys,
    ),
    Mutant(
        "row in a cell",
        "a quote that is never closed spoils only its line",
        (f"{ANY_BYTES}::test_rows_in_are_imported_and_rejected_rows_whatever_the_file",),
        _read_on_behind_a_quote,
    ),
    Mutant(
        "going on in a cell",
        "an interrupted import resumes inside a cell",
        (f"{READING}::test_a_reader_that_is_interrupted_in_a_long_row_begins_with_it_again",),
        _go_on_within_a_long_row,
    ),
    Mutant(
        "everybody's quotes",
        "the mark before a formula is removed in files that are not ours",
        (f"{ROWS}::test_other_columns_of_these_names_are_no_mark_of_ours",),
        _take_every_file_for_ours,
    ),
    Mutant(
        "our quotes",
        "the mark before a formula stays in files of ours",
        (f"{ROWS}::test_an_export_is_read_back_as_it_was_written",),
        _read_ours_as_everybody_elses,
    ),
    Mutant(
        "another domain",
        "mail for straße.example goes to strasse.example",
        (f"{ADDRESSES}::test_a_domain_is_idna_2008",),
        _take_domains_by_idna_2003,
    ),
]
