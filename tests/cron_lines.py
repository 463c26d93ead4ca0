"""Cron lines of every form that is accepted."""

from __future__ import annotations

from typing import Final

from hypothesis import strategies as st

LINES: Final = ("0 6 1 * *", "*/15 * * * *", "0 3 * * 0", "0 0 29 2 *")


def cron_lines() -> st.SearchStrategy[str]:
    """Lines with ranges, steps, lists and names, and one of the two day fields left open."""
    days = st.tuples(_field(1, 28), st.just("*")) | st.tuples(
        st.just("*"), _field(0, 7, ["sun", "mon", "tue", "wed", "thu", "fri", "sat"])
    )
    months = _field(
        1, 12, ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
    )
    return st.tuples(_field(0, 59), _field(0, 23), days, months).map(
        lambda parts: f"{parts[0]} {parts[1]} {parts[2][0]} {parts[3]} {parts[2][1]}"
    )


def _field(lowest: int, highest: int, names: list[str] | None = None) -> st.SearchStrategy[str]:
    number = st.integers(lowest, highest).map(str)
    value = number if names is None else number | st.sampled_from([*names, names[0].upper()])
    pair = st.tuples(st.integers(lowest, highest), st.integers(lowest, highest)).map(sorted)
    ranged = pair.map(lambda two: f"{two[0]}-{two[1]}")
    base = st.just("*") | number | ranged
    stepped = st.tuples(base, st.integers(1, 70)).map(lambda two: f"{two[0]}/{two[1]}")
    part = st.just("*") | value | ranged | stepped
    return st.lists(part, min_size=1, max_size=3).map(",".join)
