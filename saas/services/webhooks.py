"""Verifies incoming and signs outgoing webhooks, as specified by Standard Webhooks.

The library of that name reads the machine's clock, and leaks errors of other libraries for a
malformed signature or secret; so this module has its own code, which tests compare with the
library's. See https://www.standardwebhooks.com, "Signature scheme".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from temporal_tenancy import ConfigurationError

TOLERANCE: Final = timedelta(minutes=5)  # between the sender's clock and ours, either way
SECRET_MIN_BYTES: Final = 24
SIGNATURES_MAX: Final = 16  # checked in one header

_PREFIX: Final = "whsec_"
_VERSIONED: Final = "v1,"  # some providers show a secret with it, so it is copied along
_VERSION: Final = "v1"
_URL_SAFE: Final = str.maketrans("-_", "+/")
# The id becomes the key of a workflow id, which has 255 characters for tenant, job and key.
_ID: Final = re.compile(r"[\x21-\x7e]{1,150}")
_TIMESTAMP: Final = re.compile(r"[1-9][0-9]{0,11}")  # seconds since 1970, as they were signed

log: Final = logging.getLogger(__name__)


class WebhookRejected(Exception):
    """The webhook's signature is not valid."""

    def __init__(self) -> None:
        # Only the log has the reason: a forger must learn nothing from the response.
        super().__init__(type(self).__doc__)


@dataclass(frozen=True)
class VerifiedEvent:
    """A webhook with a valid signature and a timestamp within five minutes."""

    id: str  # the same for all deliveries of one event; 1 to 150 printable ASCII characters
    sent_at: datetime  # aware; the time of this delivery
    body: bytes  # as signed


def verify(
    secrets: Sequence[str], headers: Mapping[str, str], body: bytes, now: datetime
) -> VerifiedEvent:
    """Returns the event if one of `secrets` signed it within five minutes of `now`.

    Args:
        secrets: the endpoint's, each `whsec_` and base64; two during a rotation.
        headers: the request's, with names in any case; repeated headers included.
        body: the request's, byte for byte.
        now: the time (aware).

    Raises:
        WebhookRejected: the event is not valid; the log has the reason.
        ConfigurationError: a secret is malformed, or `secrets` is empty.
    """
    keys = [signing_key(secret) for secret in secrets]
    if not keys:
        raise ConfigurationError("the webhook endpoint has no secret. Give it one: whsec_...")
    event_id, timestamp, offered = claimed(headers, now)
    expected = [_signature(key, event_id, timestamp, body).encode() for key in keys]
    # Compares all pairs, so that the time taken does not reveal which one matches.
    matches = [hmac.compare_digest(ours, theirs) for ours in expected for theirs in offered]
    if not any(matches):
        raise _rejected("signature", event_id=event_id)
    return VerifiedEvent(event_id, datetime.fromtimestamp(int(timestamp), UTC), body)


def claimed(headers: Mapping[str, str], now: datetime) -> tuple[str, str, Sequence[bytes]]:
    """Returns the unverified id, timestamp and signatures from a webhook's headers.

    It lets a caller reject a request that cannot be valid before reading its body. Raises
    `WebhookRejected`, like `verify`, if one is missing or the timestamp is out of tolerance.
    """
    event_id, timestamp = _only(headers, "webhook-id"), _only(headers, "webhook-timestamp")
    if not _ID.fullmatch(event_id):
        raise _rejected("id")
    if not _TIMESTAMP.fullmatch(timestamp):
        raise _rejected("timestamp")
    # Compared as numbers: a huge timestamp may not fit a date.
    if abs(now.timestamp() - int(timestamp)) > TOLERANCE.total_seconds():
        raise _rejected("time", event_id=event_id)
    # A proxy may send a list in several lines (RFC 9110, 5.3).
    signatures = " ".join(_all(headers, "webhook-signature")).encode().split()[:SIGNATURES_MAX]
    offered = [each for each in signatures if each.startswith(f"{_VERSION},".encode())]
    if not offered:
        raise _rejected("signature", event_id=event_id)
    return event_id, timestamp, offered


def sign(secret: str, event_id: str, body: bytes, now: datetime) -> dict[str, str]:
    """Returns the three headers to send with `body` at `now` (aware).

    `event_id` is the same for all attempts of one event. Raises `ConfigurationError` if the secret
    is malformed.
    """
    timestamp = str(int(now.timestamp()))
    return {
        "webhook-id": event_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": _signature(signing_key(secret), event_id, timestamp, body),
    }


def signing_key(secret: str) -> bytes:
    """Returns the key in a secret; raises `ConfigurationError`, without the secret, if malformed.

    Accepts either base64 alphabet (RFC 4648, 4 and 5), with or without padding.
    """
    spelled = secret.strip().removeprefix(_VERSIONED)
    text = spelled.removeprefix(_PREFIX).rstrip("=").translate(_URL_SAFE)
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not spelled.startswith(_PREFIX) or len(key) < SECRET_MIN_BYTES:
        raise ConfigurationError(
            f"a webhook's secret must be whsec_ and {SECRET_MIN_BYTES} or more bytes in base64."
        )
    return key


def _all(headers: Mapping[str, str], name: str) -> Sequence[str]:
    return [value for key, value in headers.items() if key.lower() == name]


def _only(headers: Mapping[str, str], name: str) -> str:
    """Returns the only value of a header, or "" if it is missing or has several."""
    found = set(_all(headers, name))
    return found.pop() if len(found) == 1 else ""


def _signature(key: bytes, event_id: str, timestamp: str, body: bytes) -> str:
    signed = f"{event_id}.{timestamp}.".encode() + body
    digest = hmac.digest(key, signed, hashlib.sha256)
    return f"{_VERSION},{base64.b64encode(digest).decode()}"


def _rejected(reason: str, **fields: str) -> WebhookRejected:
    log.warning("webhook.rejected", extra={"reason": reason, **fields})
    return WebhookRejected()
