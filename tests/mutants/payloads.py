"""The mutants of payloads: faults in how they are read, and in which are accepted."""

from __future__ import annotations

import json
from typing import Any, Final

from sqlalchemy import text

from temporal_tenancy.dead_letters.payload_texts import PAYLOAD_TEXT
from temporal_tenancy.outbox import enqueueing
from temporal_tenancy.outbox.relay import queue, relay, starting
from temporal_tenancy.postgres import _every_time as every_time
from temporal_tenancy.sdk import _converter as converter
from temporal_tenancy.sdk import _guard as guard
from tests.mutants.mutant import Mutant, replace

UNREADABLE: Final = "tests/library/outbox/test_unreadable_messages.py"

_HOSTILE: Final = f"{UNREADABLE}::test_what_a_row_holds_stops_neither_the_relay_nor_others"


def _pass(*_: object, **__: object) -> None:
    """Replaces a check, and finds nothing."""


def _tell_no_codec() -> None:
    replace(guard, "needs_contexts", lambda converter: False)


def _have_the_driver_read() -> None:
    replace(queue, "CLAIM", text(str(queue.CLAIM).replace(PAYLOAD_TEXT, "m.payload")))


def _read_without_limits() -> None:
    def read_message(given: str, *, what: str) -> Any:
        return json.loads(given)

    replace(starting, "read_message", read_message)


def _read_whole_columns() -> None:
    replace(
        queue,
        "CLAIM",
        text(str(queue.CLAIM).replace("left(m.correlation_id, 200)", "m.correlation_id")),
    )


def _claim_for_all_or_none() -> None:
    replace(relay, "is_of_a_row", lambda error: False)


def _read_times_as_the_driver_does() -> None:
    replace(every_time, "_register", _pass)


def _take_in_what_cannot_be_read() -> None:
    replace(enqueueing, "require_storable", _pass)


def _take_in_what_is_not_finite() -> None:
    replace(enqueueing, "require_finite", _pass)


def _decode_every_detail() -> None:
    replace(converter, "_without_details", lambda failure: failure)


PAYLOAD_FAULTS: Final = [
    Mutant(
        "payloads-read-by-the-driver",
        "the driver decodes the payloads of a claim while it fetches the rows",
        (_HOSTILE,),
        seed=_have_the_driver_read,
    ),
    Mutant(
        "payloads-without-limits",
        "the relay reads any payload that Python can",
        (_HOSTILE,),
        seed=_read_without_limits,
    ),
    Mutant(
        "columns-of-any-length",
        "the relay passes on a correlation_id of any length",
        (_HOSTILE,),
        seed=_read_whole_columns,
    ),
    Mutant(
        "claims-for-all-or-none",
        "a row that cannot be claimed fails the claim of all tenants",
        (f"{UNREADABLE}::test_a_row_that_no_statement_may_touch_holds_up_nobody_else",),
        seed=_claim_for_all_or_none,
    ),
    Mutant(
        "times-read-by-the-driver",
        "an infinite time breaks a list that it is in",
        (f"{UNREADABLE}::test_times_that_python_has_not_break_no_list_of_others",),
        seed=_read_times_as_the_driver_does,
    ),
    Mutant(
        "enqueue-without-limits",
        "enqueue() accepts what no relay can read",
        (f"{UNREADABLE}::test_what_enqueue_takes_the_relay_reads",),
        seed=_take_in_what_cannot_be_read,
    ),
    Mutant(
        "enqueue-of-infinity",
        "enqueue() turns Infinity into null",
        (
            "tests/library/outbox/test_fair_claims.py::test_what_cannot_be_asked_for_leaves_no_message",
        ),
        seed=_take_in_what_is_not_finite,
    ),
    Mutant(
        "details-decoded-or-nothing",
        "a failure whose details cannot be decoded cannot be read at all",
        (
            "tests/library/ticks/test_fan_out.py::test_what_one_tenants_run_ends_with_stops_no_other",
        ),
        seed=_decode_every_detail,
    ),
    Mutant(
        "codec-without-context",
        "a codec is not told what a payload of a workflow is of",
        (
            "tests/library/sdk/test_plugin.py::test_a_users_codec_stays_and_the_guard_sees_what_it_decodes",
        ),
        seed=_tell_no_codec,
    ),
]
