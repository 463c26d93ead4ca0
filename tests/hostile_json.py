"""Generators: JSON as a database takes it from anybody, rows around it, and what is enqueued."""

from __future__ import annotations

import json
from typing import Any, Final

from hypothesis import strategies as st

from temporal_tenancy.core.payloads import DEPTH, DIGITS, READABLE

_SIZES: Final = st.one_of(
    st.integers(0, 20),
    st.sampled_from([308, 309, DIGITS - 1, DIGITS, DIGITS + 1, 4_300, 4_301, 20_000]),
)
_DEPTHS: Final = st.one_of(
    st.integers(1, 5), st.sampled_from([DEPTH - 1, DEPTH, DEPTH + 1, 255, 1_000, 3_000])
)


@st.composite
def numbers(draw: st.DrawFn) -> str:
    """The text of a number, of any size, with or without decimals and exponent."""
    sign = draw(st.sampled_from(["", "-"]))
    whole = draw(st.sampled_from("123456789")) + draw(st.sampled_from("059")) * draw(_SIZES)
    decimals = draw(st.sampled_from(["", ".", ".0"]))
    decimals = decimals and decimals + draw(st.sampled_from("059")) * (1 + draw(_SIZES))
    exponent = draw(st.sampled_from(["", "e", "E+", "e-"]))
    return sign + whole + decimals + (exponent and exponent + str(draw(_SIZES)))


_STRINGS: Final = st.one_of(
    st.text(max_size=8).map(json.dumps),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8).map(
        lambda text: json.dumps(text, ensure_ascii=False)
    ),
    st.sampled_from(
        [r'"\ud800"', r'"\ude00"', r'"\ud83d\ude00"', r'"\u0000"', r'"\\u0000"', '"\x7f"', '"\x9b"']
    ),
    st.sampled_from([READABLE // 2, READABLE, READABLE + 1]).map(lambda size: f'"{"x" * size}"'),
)
_SCALARS: Final = st.one_of(
    st.sampled_from(["null", "true", "false", "{}", "[]", "NaN", "Infinity", "-Infinity"]),
    numbers(),
    _STRINGS,
)


def _nested(inner: str, depth: int, as_object: bool) -> str:
    before, after = ('{"a":', "}") if as_object else ("[", "]")
    return before * depth + inner + after * depth


def _containers(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.lists(inner, max_size=4).map(lambda items: f"[{','.join(items)}]"),
        st.lists(st.tuples(_STRINGS, inner), max_size=4).map(
            lambda items: "{" + ",".join(f"{name}: {value}" for name, value in items) + "}"
        ),
        st.builds(_nested, inner, _DEPTHS, st.booleans()),
    )


JSON_TEXTS: Final = st.recursive(_SCALARS, _containers, max_leaves=6)
"""Texts that are JSON, or nearly: some are more than PostgreSQL, Python or pydantic takes."""

TEXTS: Final = st.one_of(
    JSON_TEXTS, st.text(max_size=20), st.text('[]{}:,"\\u019eE+-. ', max_size=30)
)
"""Any text, that of JSON above all."""

PAYLOADS: Final = st.one_of(
    JSON_TEXTS,
    JSON_TEXTS.map(lambda value: f'{{"data": {value}}}'),
    JSON_TEXTS.map(lambda value: f'{{"text": {value}}}'),
)
"""Texts of a payload of `test.note`; many have one of its fields."""

_WORDS: Final = st.one_of(
    st.sampled_from(["test.note", "test.small", "no.job", "platform", ""]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20),
    st.sampled_from([255, 300, 1_000]).map(lambda size: "w" * size),
)
_MOMENTS: Final = st.sampled_from(["now", "-infinity", "4713-01-01 BC", "0001-01-01"])
ROWS: Final = st.fixed_dictionaries(
    {"payload": PAYLOADS},
    optional={
        "job": _WORDS,
        "key": _WORDS,
        "correlation_id": _WORDS,
        "error_type": _WORDS,
        "error_message": _WORDS,
        "priority": st.integers(1, 5),
        "attempts": st.one_of(st.integers(-3, 8), st.sampled_from([-(2**31), 2**31 - 1])),
        "scheduled_at": _MOMENTS,
        "created_at": st.one_of(_MOMENTS, st.sampled_from(["infinity", "294276-01-01"])),
        "status": st.sampled_from(["pending", "failed"]),
    },
)
"""Columns of a message that is due."""


def in_lists(value: Any, depth: int) -> Any:
    """The value in so many lists."""
    for _ in range(depth):
        value = [value]
    return value


VALUES: Final[st.SearchStrategy[Any]] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.builds(lambda digits, sign: sign * (10**digits - 1), _SIZES, st.sampled_from([1, -1])),
        st.floats(),
        st.sampled_from(
            [
                float("inf"),
                float("nan"),
                1e308,
                -1e308,
                5e-324,
                1.7976931348623157e308,
                2.2250738585072014e-308,
            ]
        ),
        st.text(max_size=8),
        st.sampled_from(["\x00", "\ud800", "a\\u0000b", "\\ud800", "x" * 70_000]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(max_size=4), inner, max_size=4),
        st.builds(in_lists, inner, _DEPTHS),
        st.builds(lambda value, times: [value] * times, inner, st.sampled_from([100, 900])),
    ),
    max_leaves=6,
)
"""What Python code may give for a field that takes anything."""
