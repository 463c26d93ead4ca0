"""The mutants of errors' words: faults in what they quote of a tenant's data and of credentials."""

from __future__ import annotations

from typing import Final

from temporal_tenancy.core import redaction, trace_context
from temporal_tenancy.sdk import _converter as converter
from tests.mutants.mutant import Mutant, replace

WORDS: Final = "tests/library/core/test_redaction.py"
TRACES: Final = "tests/library/core/test_trace_context.py"


def _send_words_as_they_are() -> None:
    replace(converter, "words_of", lambda error: getattr(error, "message", None) or str(error))


def _write_for_people_always() -> None:
    replace(redaction, "is_for_people", lambda error: True)


def _forget_the_input() -> None:
    replace(redaction, "_texts", lambda value, depth: iter(()))


def _read_credentials_aloud() -> None:
    replace(redaction, "_mark", lambda error, withheld: None)


def _believe_any_trace() -> None:
    replace(trace_context, "readable", lambda traceparent: traceparent)


QUOTED_FAULTS: Final = [
    Mutant(
        "failures-quote",
        "the failure of a run repeats the texts of its input",
        (f"{WORDS}::test_the_failure_of_a_run_has_the_words_without_the_input",),
        seed=_send_words_as_they_are,
    ),
    Mutant(
        "logs-quote",
        "a job's log lines have the words of every exception",
        (f"{WORDS}::test_a_jobs_traceback_has_frames_and_types_and_no_quoted_words",),
        seed=_write_for_people_always,
    ),
    Mutant(
        "inputs-quoted",
        "an exception's words are not compared with the input",
        (f"{WORDS}::test_an_error_does_not_repeat_a_text_of_the_input",),
        seed=_forget_the_input,
    ),
    Mutant(
        "credentials-quoted",
        "errors repeat a credential that an activity has read",
        (f"{WORDS}::test_no_error_repeats_a_credential_that_the_code_has_read",),
        seed=_read_credentials_aloud,
    ),
    Mutant(
        "traces-unread",
        "a row's trace is believed whatever it holds",
        (f"{TRACES}::test_a_row_is_believed_only_if_it_is_a_traceparent",),
        seed=_believe_any_trace,
    ),
]
