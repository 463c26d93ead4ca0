"""The metric of imported rows: an application's own, beside the library's."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter

from saas.database.contacts import Import

_ROWS: Final = Counter("saas_import_rows", "Rows of files that imports have read.", ["outcome"])
_OUTCOMES: Final = ("imported", "updated", "rejected")
for outcome in _OUTCOMES:
    _ROWS.labels(outcome)  # from zero on


def count_rows(before: Import, after: Import) -> None:
    """Counts the rows that a committed batch has added to an import."""
    for outcome in _OUTCOMES:
        _ROWS.labels(outcome).inc(max(0, getattr(after, outcome) - getattr(before, outcome)))
