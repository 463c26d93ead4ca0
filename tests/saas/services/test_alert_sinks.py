"""Alerts as people receive them: by signed webhook and by mail."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dev.devstack.ports import LOOPBACK, free_port
from saas.services import alert_sinks
from saas.services.alert_sinks import AlertNotTaken, MailAlerts, WebhookAlerts, configured_sinks
from saas.services.webhooks import verify
from saas.settings import load_settings
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.dead_letters.alert_words import AlertWords
from temporal_tenancy.dead_letters.alerts import Alert
from tests.fixtures.smtp_server import smtp_server

SECRET = f"whsec_{base64.b64encode(bytes(24)).decode()}"
ALERT = Alert(
    name="dead-letter/7f3a",
    summary="billing.cycle has failed for good:\nacme",
    details={"tenant_id": "acme", "letters": 3},
)


class Receiver(ThreadingHTTPServer):
    """A real HTTP server that records its requests."""

    def __init__(self) -> None:
        super().__init__((LOOPBACK, 0), _Handler)
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.answer = 204

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.server_address[1]}/token-in-the-path"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.received.append((dict(self.headers.items()), body))
        self.send_response(self.server.answer)
        self.send_header("location", f"{self.server.url}/elsewhere")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing: the test reads what was received."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


async def test_an_alert_is_posted_and_its_signature_holds(receiver: Receiver) -> None:
    await WebhookAlerts(receiver.url, SECRET).send(ALERT)
    [(headers, body)] = receiver.received
    event = verify([SECRET], headers, body, datetime.now(UTC))
    told = json.loads(event.body)
    assert told["type"] == "alert.raised"
    assert told["data"] == {
        "name": "dead-letter/7f3a",
        "severity": "critical",
        "summary": ALERT.summary,
        "details": {"tenant_id": "acme", "letters": 3},
    }


@pytest.mark.parametrize("base", [None, "https://git.example/saas", "https://git.example/saas/"])
async def test_an_alert_names_its_page_and_its_command(
    receiver: Receiver, base: str | None
) -> None:
    words = AlertWords("It waits", "docs/runbooks/relay-lag.md", "outbox list")
    await WebhookAlerts(receiver.url, SECRET, runbooks=base).send(
        Alert("x", "so it is.", words=words)
    )
    [(_, body)] = receiver.received
    data = json.loads(body)["data"]
    assert (data["title"], data["runbook"], data["command"]) == (
        "It waits",
        f"{'https://git.example/saas/' if base else ''}docs/runbooks/relay-lag.md",
        "starter.py outbox list",
    )


async def test_an_alert_says_which_command_comes_next(receiver: Receiver) -> None:
    await WebhookAlerts(receiver.url, SECRET).send(Alert("outbox.age", "acme's messages wait."))
    [(_, body)] = receiver.received
    summary = json.loads(body)["data"]["summary"]
    assert summary == 'acme\'s messages wait. "starter.py outbox list" shows what waits.'


def test_an_alert_that_is_sent_again_has_its_id_and_the_next_one_has_another() -> None:
    noon = datetime(2026, 11, 22, 12, 10, tzinfo=UTC)
    first = alert_sinks._id(ALERT, noon)
    assert alert_sinks._id(ALERT, noon.replace(minute=50)) == first
    assert alert_sinks._id(ALERT, noon.replace(hour=13)) != first
    assert alert_sinks._id(Alert("other", "x"), noon) != first


@pytest.mark.parametrize("answer", [302, 400, 500])
async def test_a_webhook_that_does_not_take_it_is_told_without_its_url(
    receiver: Receiver, answer: int
) -> None:
    receiver.answer = answer
    with pytest.raises(AlertNotTaken, match=f"answered {answer}") as caught:
        await WebhookAlerts(receiver.url, SECRET).send(ALERT)
    assert "token" not in str(caught.value)
    assert len(receiver.received) == 1


async def test_a_webhook_that_is_away_is_told_without_its_url() -> None:
    with pytest.raises(AlertNotTaken, match=r"cannot be reached \(ConnectError\)") as caught:
        await WebhookAlerts(f"http://{LOOPBACK}:{free_port()}/token", SECRET).send(ALERT)
    assert "token" not in str(caught.value)


async def test_an_alert_is_mailed_in_one_line_and_its_details(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with smtp_server() as inbox:
        monkeypatch.setenv("SMTP_URL", inbox.url)
        await MailAlerts("ops@saas.example").send(ALERT)
    [message] = inbox.messages
    assert message["To"] == "ops@saas.example"
    assert message["Subject"] == "[critical] billing.cycle has failed for good: acme"
    assert "tenant_id: acme\r\nletters: 3" in message.get_content()


WEBHOOK = {"ALERT_WEBHOOK_URL": "https://ops.example/hook", "ALERT_WEBHOOK_SECRET": SECRET}
MAIL = {"ALERT_MAIL_TO": "ops@saas.example", "SMTP_URL": "smtp://mail.example"}


@pytest.fixture(autouse=True)
def _no_alerts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*WEBHOOK, *MAIL):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("variables", "sinks"),
    [
        ({}, []),
        (WEBHOOK, [WebhookAlerts]),
        (MAIL, [MailAlerts]),
        (WEBHOOK | MAIL, [WebhookAlerts, MailAlerts]),
    ],
)
def test_the_environment_names_the_sinks(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], sinks: list[type]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert [type(sink) for sink in configured_sinks(load_settings())] == sinks


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (WEBHOOK | {"ALERT_WEBHOOK_SECRET": ""}, "ALERT_WEBHOOK_SECRET is not"),
        (WEBHOOK | {"ALERT_WEBHOOK_SECRET": "guess"}, "secret must be whsec_"),
        (WEBHOOK | {"ALERT_WEBHOOK_URL": "ops.example"}, "ALERT_WEBHOOK_URL must be"),
        (MAIL | {"SMTP_URL": ""}, "SMTP_URL is not"),
        (MAIL | {"ALERT_MAIL_TO": "ops"}, "ALERT_MAIL_TO must be"),
    ],
)
def test_half_a_sink_is_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=said):
        configured_sinks(load_settings())
