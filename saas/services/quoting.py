"""Reads a row that the csv module rejects for its quotes, or whose end is far away."""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from saas.services.delimiters import Dialect

_LINE_ENDS: Final = ("\r", "\n")


class _State(Enum):
    BEGIN = 1  # of a cell
    PLAIN = 2  # in a cell without quotes
    QUOTED = 3  # within quotes
    CLOSED = 4  # after a quote that ends the cell or is the first of two


class RecordScanner:
    """Finds the end of a row, and splits its cells, in text that arrives in parts.

    It agrees with the csv module wherever that can read a row, and also accepts spaces and tabs
    after a closing quote.
    """

    def __init__(self, dialect: Dialect, most: int) -> None:
        """`most` is how many characters to keep; a longer row has no cells."""
        self.is_misquoted = False
        self._delimiter = dialect.delimiter
        self._skips_blanks = dialect.skips_blanks
        self._most = most
        self._ends_plain = re.compile(rf"[{re.escape(dialect.delimiter)}\r\n]")
        self._state = _State.BEGIN
        self._blank = False  # whether a space or tab followed the closing quote
        self._size = 0
        self._cell: list[str] = []
        self._cells: list[str] = []

    @property
    def may_end(self) -> bool:
        """Whether the row is complete if the file ends here."""
        return self._state is not _State.QUOTED

    def cells(self) -> list[str]:
        """Returns the cells of a row whose end was found and that is not longer than `most`."""
        return [*self._cells, "".join(self._cell)] if self._cell or self._cells else [""]

    def feed(self, text: str) -> bool:
        """Reads the next part of the text; returns True if the row ends at its line ending."""
        at = 0
        while at < len(text):
            character = text[at]
            if self._state is _State.QUOTED:
                at = self._within_quotes(text, at)
            elif character in _LINE_ENDS:
                return True
            elif character == self._delimiter:
                self._next_cell()
                at += 1
            elif self._state is _State.CLOSED:
                at += self._behind_quotes(character)
            elif self._state is _State.BEGIN and character == '"':
                self._state = _State.QUOTED
                at += 1
            elif self._state is _State.BEGIN and character == " " and self._skips_blanks:
                at += 1
            else:
                self._state = _State.PLAIN
                end = self._ends_plain.search(text, at)
                stop = end.start() if end else len(text)
                self._keep(text[at:stop])
                at = stop
        return False

    def _within_quotes(self, text: str, at: int) -> int:
        end = text.find('"', at)
        self._keep(text[at : len(text) if end < 0 else end])
        if end < 0:
            return len(text)
        self._state, self._blank = _State.CLOSED, False
        return end + 1

    def _behind_quotes(self, character: str) -> int:
        """Returns by how many characters to advance."""
        if character == '"' and not self._blank:
            self._keep(character)
            self._state = _State.QUOTED
            return 1
        if character in " \t":
            self._blank = True
            return 1
        self.is_misquoted = True
        self._state = _State.PLAIN
        return 0

    def _next_cell(self) -> None:
        if self._size <= self._most:
            self._cells.append("".join(self._cell))
        self._cell.clear()
        self._size += 1
        self._state = _State.BEGIN

    def _keep(self, part: str) -> None:
        self._size += len(part)
        if self._size <= self._most:
            self._cell.append(part)
