"""Where alerts to operators go: a signed webhook, and mail."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

import httpx

from saas.hints import HINTS, summary_with_hint
from saas.services import webhooks
from saas.services.mail import SUBJECT_MAX, Mail, MailInvalid, current_mail_server, deliverable
from saas.settings import Settings
from temporal_tenancy import ConfigurationError
from temporal_tenancy.core import printable
from temporal_tenancy.dead_letters import PAUSE, Alert, AlertSink, AlertWords

TIMEOUT: Final = 8.0  # seconds; shorter than the alert sender's timeout for a sink
TYPE: Final = "alert.raised"  # the type of the webhook's event


class AlertNotTaken(Exception):
    """The receiver did not accept the alert."""


class WebhookAlerts:
    """Sends alerts to a URL, signed as specified by Standard Webhooks.

    The body is `{"type": "alert.raised", "timestamp": …, "data": {name, severity, summary, details,
    title, runbook, command}}`. The last three are the annotations of the rule for Prometheus that
    alerts of the same, and missing where an alert has no page.
    """

    def __init__(self, url: str, secret: str, *, runbooks: str | None = None) -> None:
        """`secret` is `whsec_…`. Raises `ConfigurationError` if either is malformed.

        The operator sets the URL, so it may lead into the operator's own network. `runbooks` is the
        address before the paths of pages.
        """
        parsed = urlsplit(url)
        if parsed.scheme not in ("https", "http") or not parsed.hostname:
            raise ConfigurationError("ALERT_WEBHOOK_URL must be https://host/path.")
        webhooks.signing_key(secret)
        self._url = url
        self._secret = secret
        self._runbooks = runbooks

    async def send(self, alert: Alert) -> None:
        """Posts the alert. Raises `AlertNotTaken`, whose message does not contain the URL."""
        now = datetime.now(UTC)
        data: dict[str, object] = {
            "name": alert.name,
            "severity": alert.severity,
            "summary": _summary(alert),
            "details": dict(alert.details),
        }
        if alert.words is not None:
            data |= {
                **dict(_lines(alert.words, self._runbooks)),
                "command": _command(alert.words),
            }
        event = {"type": TYPE, "timestamp": now.isoformat(), "data": data}
        body = json.dumps(event).encode()
        headers = webhooks.sign(self._secret, f"alert_{_id(alert, now)}", body, now)
        try:
            async with httpx.AsyncClient(timeout=TIMEOUT) as client:
                answer = await client.post(
                    self._url,
                    content=body,
                    headers={**headers, "content-type": "application/json"},
                )
        except httpx.HTTPError as error:
            raise AlertNotTaken(
                f"the alert's webhook cannot be reached ({type(error).__name__}). "
                "Check ALERT_WEBHOOK_URL."
            ) from None
        if not answer.is_success:
            raise AlertNotTaken(
                f"the alert's webhook answered {answer.status_code}. It must answer 2xx; "
                "redirects are not followed."
            )


class MailAlerts:
    """Sends alerts to an e-mail address through the mail server that SMTP_URL names."""

    def __init__(self, to: str, *, runbooks: str | None = None) -> None:
        """Raises `ConfigurationError` if `to` is not a single valid address.

        `runbooks` is the address before the paths of pages.
        """
        try:
            deliverable(to)
        except MailInvalid:
            raise ConfigurationError("ALERT_MAIL_TO must be name@domain.") from None
        self._to = to
        self._runbooks = runbooks

    async def send(self, alert: Alert) -> None:
        """Sends the alert; raises the errors of `MailServer.send`, or `ConfigurationError`."""
        now = datetime.now(UTC)
        details = [f"{name}: {printable(str(value))}" for name, value in alert.details.items()]
        summary = _summary(alert)
        words = alert.words
        told = (
            []
            if words is None
            else [f"{name}: {text}" for name, text in _lines(words, self._runbooks)]
        )
        subject = " ".join(f"[{alert.severity}] {summary}".split())
        await current_mail_server().send(
            Mail(
                id=_id(alert, now),
                to=self._to,
                subject=subject[:SUBJECT_MAX],
                body="\n".join([summary, "", f"alert: {alert.name}", *told, *details]),
                at=now,
            )
        )


def configured_sinks(settings: Settings) -> Sequence[AlertSink]:
    """Returns the sinks that the environment configures, perhaps none.

    Raises:
        ConfigurationError: a setting of a sink is missing or malformed.
    """
    sinks: list[AlertSink] = []
    if settings.alert_webhook_url is not None:
        if settings.alert_webhook_secret is None:
            raise ConfigurationError(
                "ALERT_WEBHOOK_URL is set, but ALERT_WEBHOOK_SECRET is not. Set both."
            )
        url, secret = settings.alert_webhook_url, settings.alert_webhook_secret
        sinks.append(
            WebhookAlerts(
                url.get_secret_value(), secret.get_secret_value(), runbooks=settings.runbooks_url
            )
        )
    if settings.alert_mail_to is not None:
        if settings.smtp_url is None:
            raise ConfigurationError("ALERT_MAIL_TO is set, but SMTP_URL is not. Set both.")
        sinks.append(MailAlerts(settings.alert_mail_to, runbooks=settings.runbooks_url))
    return sinks


def _summary(alert: Alert) -> str:
    return printable(summary_with_hint(alert.name, alert.summary), lines=True)


def _lines(words: AlertWords, runbooks: str | None) -> Sequence[tuple[str, str]]:
    base = f"{runbooks.rstrip('/')}/" if runbooks else ""
    return (
        ("title", words.title),
        ("runbook", f"{base}{words.runbook}"),
        ("command", _command(words)),
    )


def _command(words: AlertWords) -> str:
    return f"{HINTS.program} {words.command}"


def _id(alert: Alert, now: datetime) -> str:
    """Returns an id that retries of an alert share, and that the next alert of its name does not.

    An alert is raised at most once per pause, so the number of whole pauses since 1970 tells two
    alerts of one name apart.
    """
    pause = int(now.timestamp() // PAUSE.total_seconds())
    return hashlib.sha256(f"{pause} {alert.name}".encode()).hexdigest()[:32]
