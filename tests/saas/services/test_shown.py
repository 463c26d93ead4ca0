"""Foreign text in our sentences cannot harm their readers."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from saas.services.shown import listed, shown


@given(text=st.text(max_size=200), characters=st.integers(1, 100))
def test_no_control_or_format_character_gets_out(text: str, characters: int) -> None:
    found = shown(text, characters)
    assert not {unicodedata.category(each)[0] for each in found} & {"C"}
    assert found.isprintable()


def test_what_is_escaped_can_still_be_told() -> None:
    assert shown("\x1b[2J\u202e\u200b\n") == "\\x1b[2J\\u202e\\u200b\\n"
    assert shown("Zoë 山田 €") == "Zoë 山田 €"
    assert shown("x" * 100, 10) == "x" * 9 + "…"
    assert listed(["a", "\x07"], most=1) == '"a", and 1 more'
