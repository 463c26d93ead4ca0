"""Webhooks as Standard Webhooks has them: what comes in is verified, what goes out is signed.

The library of that name reads the machine's clock, and answers a malformed signature or secret with
errors that are not its own; so the few lines are here, and its signatures are compared with ours.
See https://www.standardwebhooks.com, "Signature scheme".
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

from temporal_tenancy.core.errors import ConfigurationError

TOLERANCE: Final = timedelta(minutes=5)  # between the sender's clock and ours, both ways
SECRET_MIN_BYTES: Final = 24
SIGNATURES_MAX: Final = 16  # looked at in one header

_PREFIX: Final = "whsec_"
_VERSIONED: Final = "v1,"  # as a provider's page shows a secret, and who copies takes it along
_VERSION: Final = "v1"
_URL_SAFE: Final = str.maketrans("-_", "+/")
# It becomes the key of a workflow id, which is 255 characters with the tenant and the job.
_ID: Final = re.compile(r"[\x21-\x7e]{1,150}")
_TIMESTAMP: Final = re.compile(r"[1-9][0-9]{0,11}")  # seconds since 1970, as they were signed

log: Final = logging.getLogger(__name__)


class WebhookRejected(Exception):
    """The webhook's signature does not hold."""

    def __init__(self) -> None:
        # The reason is in the log only: a forger learns nothing from the answer.
        super().__init__(type(self).__doc__)


@dataclass(frozen=True)
class VerifiedEvent:
    """A webhook whose sender is known, and which is no older than five minutes."""

    id: str  # the same over all deliveries of one event; 1 to 150 printable ASCII characters
    sent_at: datetime  # aware; of this delivery
    body: bytes  # as it was signed


def verify(
    secrets: Sequence[str], headers: Mapping[str, str], body: bytes, now: datetime
) -> VerifiedEvent:
    """Returns the event if one of `secrets` has signed it within five minutes of `now`.

    Args:
        secrets: of the endpoint, each `whsec_` and base64; two while one takes over from another.
        headers: of the request, whatever the case of their names; one that comes twice too.
        body: of the request, byte for byte.
        now: the time (aware).

    Raises:
        WebhookRejected: it is not so; the log has the reason.
        ConfigurationError: a secret is none, or there is no secret at all.
    """
    keys = [signing_key(secret) for secret in secrets]
    if not keys:
        raise ConfigurationError("a webhook's endpoint has no secret. Give it one: whsec_...")
    event_id, timestamp, offered = claimed(headers, now)
    expected = [_signature(key, event_id, timestamp, body).encode() for key in keys]
    # All pairs, whichever matches: the time taken says nothing of it.
    matches = [hmac.compare_digest(ours, theirs) for ours in expected for theirs in offered]
    if not any(matches):
        raise _rejected("signature", event_id=event_id)
    return VerifiedEvent(event_id, datetime.fromtimestamp(int(timestamp), UTC), body)


def claimed(headers: Mapping[str, str], now: datetime) -> tuple[str, str, Sequence[bytes]]:
    """Returns the id, the timestamp and the signatures that a webhook's headers claim.

    Nothing of it is proven: it is for refusing what nobody could have signed before its body is
    read. Raises `WebhookRejected`, as `verify` does, where one is missing or the time is not now.
    """
    event_id, timestamp = _only(headers, "webhook-id"), _only(headers, "webhook-timestamp")
    if not _ID.fullmatch(event_id):
        raise _rejected("id")
    if not _TIMESTAMP.fullmatch(timestamp):
        raise _rejected("timestamp")
    # Compared as numbers: what is far off need not be a date.
    if abs(now.timestamp() - int(timestamp)) > TOLERANCE.total_seconds():
        raise _rejected("time", event_id=event_id)
    # A proxy may send a list in several lines (RFC 9110, 5.3).
    signatures = " ".join(_all(headers, "webhook-signature")).encode().split()[:SIGNATURES_MAX]
    offered = [each for each in signatures if each.startswith(f"{_VERSION},".encode())]
    if not offered:
        raise _rejected("signature", event_id=event_id)
    return event_id, timestamp, offered


def sign(secret: str, event_id: str, body: bytes, now: datetime) -> dict[str, str]:
    """Returns the three headers under which `body` is sent at `now` (aware).

    `event_id` is the same over all attempts of one event. Raises `ConfigurationError` where the
    secret is none.
    """
    timestamp = str(int(now.timestamp()))
    return {
        "webhook-id": event_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": _signature(signing_key(secret), event_id, timestamp, body),
    }


def signing_key(secret: str) -> bytes:
    """The key that a secret spells; raises `ConfigurationError`, not repeating it, where none.

    Either alphabet of base64 (RFC 4648, 4 and 5) is taken, with its padding or without.
    """
    spelled = secret.strip().removeprefix(_VERSIONED)
    text = spelled.removeprefix(_PREFIX).rstrip("=").translate(_URL_SAFE)
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not spelled.startswith(_PREFIX) or len(key) < SECRET_MIN_BYTES:
        raise ConfigurationError(
            f"a webhook's secret reads whsec_ and {SECRET_MIN_BYTES} or more bytes in base64."
        )
    return key


def _all(headers: Mapping[str, str], name: str) -> Sequence[str]:
    return [value for given, value in headers.items() if given.lower() == name]


def _only(headers: Mapping[str, str], name: str) -> str:
    """The one value of a header; nothing where it has several."""
    found = set(_all(headers, name))
    return found.pop() if len(found) == 1 else ""


def _signature(key: bytes, event_id: str, timestamp: str, body: bytes) -> str:
    signed = f"{event_id}.{timestamp}.".encode() + body
    digest = hmac.digest(key, signed, hashlib.sha256)
    return f"{_VERSION},{base64.b64encode(digest).decode()}"


def _rejected(reason: str, **fields: str) -> WebhookRejected:
    log.warning("webhook.rejected", extra={"reason": reason, **fields})
    return WebhookRejected()
