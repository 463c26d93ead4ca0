"""What a tenant reads of a failed job: what it can act on, and nothing of our servers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processes.web.errors import AWAY
from processes.web.failures import OURS, failure
from processes.web.sentences import sentence
from saas.services.sync_failures import _STATUSES, _TYPES, sync_failure
from tests.fixtures.web import is_sentence


@pytest.mark.parametrize(
    ("kind", "message", "told"),
    [
        ("PartnerGone", "the partner is gone.", "The partner is gone."),
        ("UsageNotBillable", "usage of 2013-04: 1 event", "Usage of 2013-04: 1 event."),
        ("AnswerRefused", "api.x.example answered 401.", "api.x.example answered 401."),
        ("OutsideUnavailable", "x does not answer: ConnectError.", "The partner did not answer."),
        ("SecretMissing", "Put it into acme/crm below SECRETS_URL.",
         "The integration's credential is missing. Set it again."),
        ("DatabaseUnreachable", "db.internal:5432 does not answer.", OURS),
        ("OperationalError", "connection to db.internal failed", OURS),
        ("KeyError", "'hunter2'", OURS),
        ("Timeout.START_TO_CLOSE", "activity StartToClose timeout", OURS),
    ],
)  # fmt: skip
def test_a_failure_is_told_to_a_tenant(kind: str, message: str, told: str) -> None:
    shown = failure(kind, message)
    assert (shown.type, shown.message) == (kind, told)


@pytest.mark.parametrize("kind", AWAY)
def test_what_a_server_of_ours_says_is_for_operators(kind: type[Exception]) -> None:
    assert failure(kind.__name__, "db.internal:5432").message == OURS


types = st.sampled_from([*_TYPES, "KeyError", "", None])
statuses = st.none() | st.integers(300, 599) | st.sampled_from(sorted(_STATUSES))


@given(types, statuses)
def test_a_failed_sync_is_told_in_sentences_without_names_of_errors(
    kind: str | None, status: int | None
) -> None:
    told = sync_failure(kind, status)
    assert is_sentence(told)
    assert "Error" not in told
    assert not kind or kind not in told


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("the request is not valid.", "The request is not valid."),
        ("it has no file", "It has no file."),
        ("report.daily is not over.", "report.daily is not over."),
        ("2013-04 is not over.", "2013-04 is not over."),
        ("api.x.example answered 404.", "api.x.example answered 404."),
        ("a-b is not a period.", "a-b is not a period."),
        ("Is it one?", "Is it one?"),
    ],
)
def test_a_message_becomes_a_sentence(message: str, told: str) -> None:
    assert sentence(message) == told


@given(st.text(max_size=30))
def test_a_sentence_stays_one_and_only_its_ends_change(message: str) -> None:
    made = sentence(message)
    assert sentence(made) == made
    assert made[1:].removesuffix(".") == message[1:].removesuffix(".")
