"""No control or format character of a foreign text reaches a terminal, a mail or a page."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from temporal_tenancy.core.display import is_hidden, printable, printable_json, quoted
from temporal_tenancy.core.errors import InvalidPayload

OWNED = "a\x1b[2J\x1b]0;owned\x07\x9b31m\u202eb\u200b\u2028\U000e0041\x7f"


def bare(text: str) -> str:
    """Returns text without our own line ends."""
    return text.replace("\n", "")


@given(st.text())
@example(OWNED)
def test_nothing_hidden_is_left_in_a_sentence(text: str) -> None:
    for shown in (printable(text), quoted(text), InvalidPayload(text).sentence):
        assert not any(map(is_hidden, shown))


@given(st.text().filter(lambda text: not any(map(is_hidden, text))))
def test_other_text_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


@given(
    st.recursive(
        st.text() | st.integers() | st.none(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
@example(OWNED)
def test_json_says_the_same_and_hides_nothing(document: Any) -> None:
    text = printable_json(json.dumps(document, ensure_ascii=False, indent=2))
    assert json.loads(text) == document
    assert not any(map(is_hidden, bare(text)))
