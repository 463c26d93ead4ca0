"""The trace of a row, and code that runs without any."""

from __future__ import annotations

import pytest

from temporal_tenancy.core import trace_context
from temporal_tenancy.core.trace_context import current_traceparent, span, trace_ids

OTHERS = f"00-{'ab' * 16}-{'cd' * 8}-01"


@pytest.mark.parametrize(
    "written",
    [
        *(None, "", "x", OTHERS[:-1], f"{OTHERS}0", f"{OTHERS}\n", OTHERS.upper()),
        *(f"{OTHERS[:-1]}\u0660", f"00-{'0' * 32}-{'cd' * 8}-01", f"00-{'ab' * 16}-{'0' * 16}-01"),
    ],
)
def test_a_row_is_believed_only_if_it_is_a_traceparent(written: str | None) -> None:
    assert trace_context.readable(written) is None
    assert trace_context.readable(OTHERS) == OTHERS


def test_without_tracing_a_span_is_nothing() -> None:
    with span("work", parents=[OTHERS]) as work:
        work.describe("other", number=1)
        work.fail("Wrong")
        assert (current_traceparent(), trace_ids()) == (None, {})
