"""How long a remote server asks clients to wait."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saas.services.outgoing_http import retry_after

NOW = datetime(2026, 11, 27, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [
        "Wed, 21 Oct 99999999999999999999 07:28:00 GMT",
        "Wed, 99999999999999999999 Oct 2026 07:28:00 GMT",
        "Wed, 21 Oct 2026 07:28:00 +99999999999999999999",
        "soon",
        "-5",
        "1e9",
    ],
)
def test_a_retry_after_that_is_no_time_is_none(value: str) -> None:
    assert retry_after(value, NOW) is None


@given(st.text(max_size=60))
def test_any_retry_after_is_a_wait_or_none(value: str) -> None:
    wait = retry_after(value, NOW)
    assert wait is None or wait >= timedelta(0)
