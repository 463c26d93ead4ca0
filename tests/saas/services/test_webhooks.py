"""Webhooks: which are accepted; the answer does not say why another is not."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from saas.services.webhooks import SIGNATURES_MAX, WebhookRejected, sign, signing_key, verify
from temporal_tenancy.core.errors import ConfigurationError
from tests.fixtures.log_lines import LogLines

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SECRET = f"whsec_{base64.b64encode(bytes(range(24))).decode()}"
OTHER = f"whsec_{base64.b64encode(bytes(range(1, 33))).decode()}"
BODY = b'{"type": "payment.succeeded",  "data": {"plan": "free"}}'
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"


def signed(body: bytes = BODY, *, secret: str = SECRET, at: datetime = NOW) -> dict[str, str]:
    return sign(secret, ID, body, at)


def test_a_signed_event_is_returned_as_it_was_sent() -> None:
    event = verify([SECRET], signed(), BODY, NOW)
    assert (event.id, event.sent_at, event.body) == (ID, NOW, BODY)


def test_the_vector_of_the_specification_holds() -> None:
    # From the scheme's own libraries: secret, id, timestamp and body are theirs.
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    at = datetime.fromtimestamp(1614265330, UTC)
    verify(["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], headers, b'{"test": 2432232314}', at)


@given(st.text(), st.binary(min_size=24, max_size=64))
def test_the_schemes_own_library_signs_as_we_do(text: str, key: bytes) -> None:
    secret = f"whsec_{base64.b64encode(key).decode()}"
    try:
        body = text.encode()
    except UnicodeEncodeError:
        return
    theirs = Webhook(secret).sign(ID, NOW, text)
    assert sign(secret, ID, body, NOW)["webhook-signature"] == theirs


def test_the_time_that_is_signed_is_the_moment_and_not_the_clocks_face() -> None:
    tokyo = NOW.astimezone(timezone(timedelta(hours=9)))
    assert signed(at=tokyo) == signed()


@pytest.mark.parametrize("seconds", [-300, 300])
def test_five_minutes_are_near_enough_both_ways(seconds: int) -> None:
    verify([SECRET], signed(at=NOW + timedelta(seconds=seconds)), BODY, NOW)


def test_header_names_are_taken_in_any_case() -> None:
    headers = {name.title(): value for name, value in signed().items()}
    assert verify([SECRET], headers, BODY, NOW).id == ID


@pytest.mark.parametrize("secret", [SECRET, OTHER])
def test_two_secrets_hold_while_one_takes_over(secret: str) -> None:
    assert verify([OTHER, SECRET], signed(secret=secret), BODY, NOW).id == ID


def test_one_of_several_signatures_is_enough() -> None:
    old, new = signed(secret=OTHER), signed()
    both = f"v1a,xxxx {old['webhook-signature']} {new['webhook-signature']}"
    assert verify([SECRET], new | {"webhook-signature": both}, BODY, NOW).id == ID


def test_a_delivery_that_is_repeated_at_once_is_the_same_event() -> None:
    first, second = (verify([SECRET], signed(), BODY, NOW) for _ in range(2))
    assert first == second


CHANGED = bytes([BODY[0], BODY[1] ^ 1]) + BODY[2:]
SIGNATURE = signed()["webhook-signature"]

FORGED: dict[str, tuple[Mapping[str, str], bytes]] = {
    "a changed byte": (signed(), CHANGED),
    "re-serialised JSON": (signed(), json.dumps(json.loads(BODY)).encode()),
    "another id": (signed() | {"webhook-id": "msg_another"}, BODY),
    "another time": (signed() | {"webhook-timestamp": str(int(NOW.timestamp()) + 1)}, BODY),
    "301 s old": (signed(at=NOW - timedelta(seconds=301)), BODY),
    "301 s ahead": (signed(at=NOW + timedelta(seconds=301)), BODY),
    "another's secret": (signed(secret=OTHER), BODY),
    "no headers": ({}, BODY),
    "no signature": (signed() | {"webhook-signature": ""}, BODY),
    "a signature of no version": (signed() | {"webhook-signature": SIGNATURE[3:]}, BODY),
    "a signature of another version": (
        signed() | {"webhook-signature": f"v2{SIGNATURE[2:]}"},
        BODY,
    ),
    "a signature that is not base64": (signed() | {"webhook-signature": "v1,%%%"}, BODY),
    "a signature that is not ASCII": (signed() | {"webhook-signature": "v1,é"}, BODY),
    "a signature cut short": (signed() | {"webhook-signature": SIGNATURE[:-4]}, BODY),
    "a signature behind too many": (
        signed() | {"webhook-signature": "v1,x " * SIGNATURES_MAX + SIGNATURE},
        BODY,
    ),
    "a time that is no number": (signed() | {"webhook-timestamp": "now"}, BODY),
    "a time that is not finite": (signed() | {"webhook-timestamp": "nan"}, BODY),
    "a time beyond the calendar": (signed() | {"webhook-timestamp": "999999999999"}, BODY),
    "a time with a sign": (
        signed() | {"webhook-timestamp": f"+{int(NOW.timestamp())}"},
        BODY,
    ),
    "an empty id": (sign(SECRET, "", BODY, NOW), BODY),
    "an id with a space": (sign(SECRET, "a b", BODY, NOW), BODY),
    "an id with a line end": (sign(SECRET, "a\n", BODY, NOW), BODY),
    "an id that no workflow id holds": (sign(SECRET, "a" * 151, BODY, NOW), BODY),
}


@pytest.mark.parametrize(("headers", "body"), FORGED.values(), ids=FORGED.keys())
def test_what_does_not_hold_is_rejected_without_a_reason(
    headers: Mapping[str, str], body: bytes, log_lines: LogLines
) -> None:
    with pytest.raises(WebhookRejected) as caught:
        verify([SECRET], headers, body, NOW)
    assert str(caught.value) == "The webhook's signature is not valid."
    assert log_lines.one("webhook.rejected")["reason"] in ("id", "timestamp", "time", "signature")


@given(
    st.binary(min_size=24, max_size=64),
    st.sampled_from(["whsec_", "v1,whsec_", " v1,whsec_"]),
    st.sampled_from([base64.b64encode, base64.urlsafe_b64encode]),
    st.booleans(),
    st.sampled_from(["", "\n", " "]),
)
def test_every_spelling_of_a_secret_is_the_same_key(
    key: bytes, prefix: str, encode: Callable[[bytes], bytes], padded: bool, end: str
) -> None:
    text = encode(key).decode()
    assert signing_key(f"{prefix}{text if padded else text.rstrip('=')}{end}") == key


def test_a_secret_that_was_cut_off_signs_nothing_any_more() -> None:
    headers = signed(secret=OTHER)
    verify([SECRET, OTHER], headers, BODY, NOW)
    with pytest.raises(WebhookRejected):
        verify([SECRET], headers, BODY, NOW)


def test_the_log_says_neither_the_secret_nor_what_was_sent(log_lines: LogLines) -> None:
    with pytest.raises(WebhookRejected):
        verify([SECRET], signed(secret=OTHER), BODY, NOW)
    for hidden in (SECRET, SIGNATURE, BODY.decode()):
        assert hidden not in log_lines.text


POOR: dict[str, Any] = {
    "no prefix": [SECRET.removeprefix("whsec_")],
    "not base64": ["whsec_%%%%"],
    "not ASCII": [f"whsec_é{'A' * 32}"],
    "23 bytes": [f"whsec_{base64.b64encode(bytes(23)).decode()}"],
    "empty": [""],
    "none at all": [],
}


@pytest.mark.parametrize("secrets", POOR.values(), ids=POOR.keys())
def test_a_poor_secret_is_refused_and_not_repeated(secrets: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        verify(secrets, signed(), BODY, NOW)
    for secret in filter(None, secrets):
        assert secret.removeprefix("whsec_") not in str(caught.value)
