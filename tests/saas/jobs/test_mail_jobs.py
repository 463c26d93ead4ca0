"""Mail and notification jobs: sent once, after retries, and only referenced in the history."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest
from sqlalchemy import select, update
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ActivityError, ApplicationError

from activities.mail import SentMail, ask_for_mail
from activities.notifications import WrittenNotice
from dev.devstack.ports import LOOPBACK, free_port
from saas.database.mail import Notification, OutgoingMail
from saas.queues import Queue
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.errors import InvalidPayload
from temporal_tenancy.outbox import OutboxMessage, ProcessedEvent, enqueue
from temporal_tenancy.postgres.database import Database, tenant_session
from tests.fixtures.postgres import within
from tests.fixtures.saas import saas_worker
from tests.fixtures.smtp_server import Inbox, smtp_server
from workflows.mail import SendEmail, SendEmailInput
from workflows.notifications import SendNotification, SendNotificationInput

ADDRESS = "ann@acme.example"
TEXT = "All 3 rows are there."
TENANTS: dict[str, dict[str, Any]] = {
    "acme": {"notify_email": ADDRESS},
    "globex": {"notify_email": "gil@globex.example"},
    "silent": {},
    "careless": {"notify_email": "nobody\r\nBcc: eve@evil.example"},
}


@pytest.fixture
async def worker(saas: Client, tenants: Tenants) -> AsyncIterator[None]:
    for tenant, settings in TENANTS.items():
        await tenants.add(tenant, tenant, plan="free", settings=settings)
    async with saas_worker(saas, task_queue=Queue.DEFAULT):
        yield


@pytest.fixture
def inbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Inbox]:
    with smtp_server() as inbox:
        monkeypatch.setenv("SMTP_URL", inbox.url)
        yield inbox


async def ask(database: Database, tenant: str = "acme", *, to: str = ADDRESS) -> None:
    with within(database, tenant):
        async with tenant_session() as session:
            await ask_for_mail(session, "welcome", recipient=to, subject="Grüße", body=TEXT)


async def start(
    client: Client, tenant: str = "acme", key: str = "welcome"
) -> WorkflowHandle[Any, SentMail]:
    """Starts the job like the relay; another key is another delivery."""
    return await client.start_workflow(
        SendEmail.run,
        SendEmailInput(tenant_id=tenant, mail_id="welcome"),
        id=f"{tenant}/email.send/{key}",
        task_queue=Queue.DEFAULT,
    )


async def send(client: Client, tenant: str = "acme", key: str = "welcome") -> SentMail:
    return await (await start(client, tenant, key)).result()


async def rows(database: Database, tenant: str, model: Any) -> Sequence[Any]:
    with within(database, tenant):
        async with tenant_session() as session:
            return (await session.scalars(select(model))).all()


async def failure(client: Client, tenant: str = "acme") -> ApplicationError:
    handle = await start(client, tenant)
    with pytest.raises(WorkflowFailureError) as caught:
        await handle.result()
    assert isinstance(caught.value.cause, ActivityError)
    cause = caught.value.cause.cause
    assert isinstance(cause, ApplicationError)
    return cause


async def until_it_has_been_tried(handle: WorkflowHandle[Any, Any]) -> None:
    while True:
        pending = (await handle.describe()).raw_description.pending_activities
        if any(activity.HasField("last_failure") for activity in pending):
            return


@pytest.mark.usefixtures("worker")
async def test_a_mail_that_was_asked_for_is_sent_and_its_text_is_not_kept(
    saas: Client, database: Database, inbox: Inbox
) -> None:
    await ask(database)
    assert (await send(saas)).sent
    [message] = inbox.messages
    assert (message["To"], message["Subject"]) == (ADDRESS, "Grüße")
    assert TEXT in message.get_content()
    [mail] = await rows(database, "acme", OutgoingMail)
    assert (mail.body, mail.answer) == (None, None)
    assert mail.sent_at > mail.created_at


@pytest.mark.usefixtures("worker")
async def test_asking_twice_is_one_mail_and_one_message(database: Database) -> None:
    await ask(database)
    await ask(database)
    assert len(await rows(database, "acme", OutgoingMail)) == 1
    [asked] = await rows(database, "acme", OutboxMessage)
    assert (asked.job, asked.key, asked.payload) == (
        "email.send",
        "welcome",
        {"mail_id": "welcome"},
    )


@pytest.mark.usefixtures("worker")
async def test_a_mail_that_is_known_to_be_sent_is_not_sent_again(
    saas: Client, database: Database, inbox: Inbox
) -> None:
    await ask(database)
    sent = [(await send(saas, key=f"delivery-{number}")).sent for number in range(3)]
    assert sent == [True, False, False]
    assert inbox.attempts == 1


@pytest.mark.usefixtures("worker")
async def test_a_mail_that_was_sent_unnoticed_goes_out_with_the_same_message_id(
    saas: Client, database: Database, inbox: Inbox
) -> None:
    await ask(database)
    await send(saas)
    with within(database, "acme"):  # as if the process had died before it was recorded
        async with tenant_session() as session:
            await session.execute(update(OutgoingMail).values(sent_at=None, body=TEXT))
            for event in await session.scalars(select(ProcessedEvent)):
                await session.delete(event)
    assert (await send(saas, key="again")).sent
    first, second = inbox.raw
    assert first == second


@pytest.mark.usefixtures("worker")
async def test_two_tenants_mails_of_one_id_are_two_mails(
    saas: Client, database: Database, inbox: Inbox
) -> None:
    for tenant in ("acme", "globex"):
        await ask(database, tenant)
        assert (await send(saas, tenant)).sent
    first, second = (message["Message-ID"] for message in inbox.messages)
    assert first != second


@pytest.mark.usefixtures("worker")
async def test_a_mail_is_sent_again_when_the_server_was_busy(
    saas: Client, database: Database, inbox: Inbox
) -> None:
    inbox.refusals.append("451 4.7.1 come back")
    await ask(database)
    assert (await send(saas)).sent
    assert inbox.attempts == 2
    [mail] = await rows(database, "acme", OutgoingMail)
    assert mail.answer is None


@pytest.mark.usefixtures("worker")
async def test_a_mail_is_sent_when_the_server_is_back(
    saas: Client, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("SMTP_URL", f"smtp://{LOOPBACK}:{port}")
    await ask(database)
    handle = await start(saas)
    await until_it_has_been_tried(handle)
    with smtp_server(port) as inbox:
        assert (await handle.result()).sent
    assert len(inbox.messages) == 1


@pytest.mark.usefixtures("worker")
async def test_a_refusal_for_good_is_not_tried_again_and_kept_with_the_mail(
    saas: Client, database: Database, inbox: Inbox
) -> None:
    inbox.refusals.append(f"550 5.1.1 <{ADDRESS}> unknown here")
    await ask(database)
    error = await failure(saas)
    assert (error.type, error.non_retryable, inbox.attempts) == ("MailRefused", True, 1)
    assert "permanently: 550 5.1.1." in error.message
    [mail] = await rows(database, "acme", OutgoingMail)
    assert "unknown here" in mail.answer
    assert (mail.sent_at, mail.body) == (None, TEXT)


@pytest.mark.usefixtures("worker")
async def test_a_mail_with_another_header_in_its_address_is_refused(
    saas: Client, database: Database, inbox: Inbox
) -> None:
    await ask(database, to=f"{ADDRESS}\r\nBcc: eve@evil.example")
    assert (await failure(saas)).type == "MailInvalid"
    assert inbox.attempts == 0


@pytest.mark.usefixtures("worker", "inbox")
async def test_another_tenants_mail_is_not_found(saas: Client, database: Database) -> None:
    await ask(database, "acme")
    error = await failure(saas, "globex")
    assert (error.type, error.non_retryable) == ("MailNotFound", True)


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("refusal", [None, f"550 5.1.1 <{ADDRESS}> {TEXT}"])
async def test_a_history_holds_neither_address_nor_text(
    saas: Client, database: Database, inbox: Inbox, refusal: str | None
) -> None:
    await ask(database)
    if refusal:
        inbox.refusals.append(refusal)
        await failure(saas)
    else:
        await send(saas)
    handle = saas.get_workflow_handle("acme/email.send/welcome")
    events = (await handle.fetch_history()).events
    history = b"".join(event.SerializeToString() for event in events)
    assert b"welcome" in history
    for hidden in (ADDRESS, TEXT, "Grüße", "Gr\\u00fc"):
        assert hidden.encode() not in history


# Notifications.


async def notify(client: Client, tenant: str, key: str = "import-1") -> WrittenNotice:
    return await client.execute_workflow(
        SendNotification.run,
        SendNotificationInput(
            tenant_id=tenant, subject="Import terminé", body=TEXT, reference="imports/1"
        ),
        id=f"{tenant}/notifications.send/{key}",
        task_queue=Queue.DEFAULT,
    )


@pytest.mark.usefixtures("worker")
async def test_a_notification_is_written_once_and_asks_for_one_mail(
    saas: Client, database: Database
) -> None:
    told = [await notify(saas, "acme") for _ in range(3)]
    assert told == [
        WrittenNotice(written=True, mailed=True),
        WrittenNotice(written=False),
        WrittenNotice(written=False),
    ]
    [notification] = await rows(database, "acme", Notification)
    assert (notification.subject, notification.body) == ("Import terminé", TEXT)
    assert notification.reference == "imports/1"
    [mail] = await rows(database, "acme", OutgoingMail)
    assert (mail.recipient, mail.id) == (ADDRESS, f"notification-{notification.id}")
    [message] = await rows(database, "acme", OutboxMessage)
    assert (message.job, message.payload) == ("email.send", {"mail_id": mail.id})


@pytest.mark.usefixtures("worker")
async def test_a_tenant_that_named_no_address_gets_no_mail(
    saas: Client, database: Database
) -> None:
    assert await notify(saas, "silent") == WrittenNotice(written=True, mailed=False)
    assert len(await rows(database, "silent", Notification)) == 1
    assert await rows(database, "silent", OutboxMessage) == []


@pytest.mark.usefixtures("worker")
async def test_two_tenants_notifications_of_one_key_do_not_suppress_each_other(
    saas: Client, database: Database
) -> None:
    for tenant in ("acme", "globex"):
        assert (await notify(saas, tenant)).written
        assert len(await rows(database, tenant, Notification)) == 1


@pytest.mark.usefixtures("worker")
async def test_an_address_in_the_settings_that_is_none_costs_the_mail_and_not_the_notification(
    saas: Client, database: Database, inbox: Inbox
) -> None:
    assert (await notify(saas, "careless")).written
    [message] = await rows(database, "careless", OutboxMessage)
    with pytest.raises(WorkflowFailureError) as caught:
        await saas.execute_workflow(
            SendEmail.run,
            SendEmailInput(tenant_id="careless", mail_id=message.key),
            id=f"careless/email.send/{message.key}",
            task_queue=Queue.DEFAULT,
        )
    assert isinstance(caught.value.cause, ActivityError)
    assert isinstance(caught.value.cause.cause, ApplicationError)
    assert caught.value.cause.cause.type == "MailInvalid"
    assert inbox.attempts == 0


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    "wrong",
    [
        {"subject": "two\nlines"},
        {"subject": ""},
        {"subject": "a" * 201},
        {"body": "nul\x00"},
        {"body": "a" * 10_001},
        {"reference": "a\u2028b"},
    ],
)
async def test_a_notification_that_cannot_be_told_is_refused_where_it_is_asked_for(
    database: Database, wrong: dict[str, str]
) -> None:
    fields = {"subject": "Import done", "body": TEXT, "reference": "imports/1"} | wrong
    with within(database, "acme"):
        async with tenant_session():
            with pytest.raises(InvalidPayload):
                await enqueue("notifications.send", fields, key="import-1")
