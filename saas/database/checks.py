"""Checks that tables have in common."""

from __future__ import annotations

from enum import StrEnum


def one_of(column: str, values: type[StrEnum]) -> str:
    """The check that `column` has one of `values`."""
    return f"{column} in ({', '.join(repr(value.value) for value in values)})"
