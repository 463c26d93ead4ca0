"""A row's `traceparent`, which its tenant may have written, turns on no sampling."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    ParentBased,
    ParentBasedTraceIdRatio,
    Sampler,
)

from temporal_tenancy.tracing._process import _context

IDS = f"{'ab' * 16}-{'cd' * 8}"


@pytest.mark.parametrize(
    ("given", "sampler", "sampled"),
    [
        ("01", ParentBased(ALWAYS_ON), True),
        ("01", ALWAYS_ON, True),
        ("01", ParentBased(ALWAYS_OFF), False),
        ("01", ParentBasedTraceIdRatio(0.0), False),
        ("ff", ParentBasedTraceIdRatio(0.0), False),
        ("01", ParentBasedTraceIdRatio(1.0), True),
        ("00", ParentBased(ALWAYS_ON), False),
    ],
)
def test_the_process_decides_itself_what_it_samples(
    given: str, sampler: Sampler, sampled: bool
) -> None:
    context = _context(f"00-{IDS}-{given}", sampler, "relay test.note")
    assert context.trace_flags.sampled is sampled
    assert f"{context.trace_id:032x}-{context.span_id:016x}" == IDS
