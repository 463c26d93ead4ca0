"""The demo's part on jobs that the application requests: an import, a webhook, a dead letter."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

import httpx
from sqlalchemy import text

from dev import local_saas
from dev.demo_stage import command, console, hold, title, with_database
from dev.devstack.stack import Stack
from dev.local_saas import HERE
from dev.sample_data.load import load_events, unbillable_flight
from saas.services.webhooks import sign
from temporal_tenancy import Database, TenantScope, enter, tenant_session, use_database
from temporal_tenancy.core import number

IMPORTER: Final = "ua"
OTHER: Final = "dl"
CONTACTS: Final = 20_000
WITHOUT_ADDRESS: Final = 25  # of them
PAYER: Final = "b6"
DELIVERIES: Final = 3
FAILING: Final = "f9"
FAILING_MONTH: Final = "2014-02"
PATIENCE_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.2


def show_messages(stack: Stack) -> None:
    """Shows all three, with a relay and the HTTP door beside the worker."""
    with local_saas.relay(stack), local_saas.web(stack):
        _an_import(stack)
        _a_webhook(stack)
        _a_dead_letter(stack)


def _an_import(stack: Stack) -> None:
    title(f"A file of {CONTACTS:,} contacts, {WITHOUT_ADDRESS} of them without an address")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "contacts.csv"
        _write_contacts(file)
        done = _imported(stack, file)
    console.print(
        f"  {number(done['rows'], 'row')}: {done['imported']:,} imported, "
        f"{done['updated']:,} updated, {done['rejected']:,} rejected, into {done['error_file']}"
    )
    hold(
        (done["status"], done["rows"], done["imported"], done["rejected"])
        == ("completed", CONTACTS, CONTACTS - WITHOUT_ADDRESS, WITHOUT_ADDRESS),
        "every row of the file is accounted for",
    )
    command(stack, "imports", "show", done["id"], "--tenant", OTHER, expect=2)
    hold(True, "Delta cannot see that import")


def _imported(stack: Stack, file: Path) -> Any:  # JSON
    """Imports a file as a person would, with the progress bar."""
    arguments = ["imports", "start", str(file), "--tenant", IMPORTER, "--wait"]
    console.print(f"[dim]$ starter.py {' '.join(arguments)}[/]")
    subprocess.run(
        [sys.executable, "starter.py", *arguments],
        cwd=HERE,
        env=stack.process_environment(),
        stdout=subprocess.DEVNULL,
        check=True,
    )
    [newest] = local_saas.starter(stack, "imports", "list", "--tenant", IMPORTER, "--limit", "1")
    return newest


def _write_contacts(file: Path) -> None:
    with file.open("w") as lines:
        lines.write("email,name,company\n")
        for number in range(CONTACTS):
            address = "" if number < WITHOUT_ADDRESS else f"person{number}@airline.example"
            lines.write(f"{address},Person {number},United\n")


def _a_webhook(stack: Stack) -> None:
    title(f"A payment event is delivered {DELIVERIES} times, signed, to the HTTP door")
    secret = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
    folder = Path(url2pathname(urlsplit(stack.environment()["SECRETS_URL"]).path)) / PAYER
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "payments.webhook").write_text(secret)
    now = datetime.now(UTC)
    event = {
        "type": "subscription.activated",
        "timestamp": now.isoformat(),
        "data": {"plan": "enterprise"},
    }
    body = json.dumps(event).encode()
    url = f"{stack.environment()['WEB_URL']}/webhooks/payments/{PAYER}"
    headers = sign(secret, "evt_demo", body, now)
    answers = [httpx.post(url, content=body, headers=headers) for _ in range(DELIVERIES)]
    console.print(f"[dim]$ curl {url}[/]  answered {[each.status_code for each in answers]}")
    hold(all(each.is_success for each in answers), "each delivery is accepted")
    forged = httpx.post(url, content=body + b" ", headers=headers)
    hold(forged.status_code == 401, "a body that was changed after signing is refused")
    query = "select count(*) from audit_entries where action = 'subscription.active'"
    _until(stack, PAYER, query, 1)
    hold(_count(stack, PAYER, query) == 1, "the subscription was activated once")


def _a_dead_letter(stack: Stack) -> None:
    title("A requested job fails, becomes a dead letter, and is replayed in its own tenant")

    async def spoil(database: Database) -> None:
        await load_events(database, FAILING, [unbillable_flight(FAILING, FAILING_MONTH)])

    async def mend(database: Database) -> None:
        with use_database(database), enter(TenantScope(FAILING)):
            async with tenant_session() as session:
                await session.execute(text("delete from usage_events where distance < 0"))

    asyncio.run(with_database(stack, spoil))
    period = json.dumps({"period": FAILING_MONTH})
    command(stack, "enqueue", "billing.cycle", "--tenant", FAILING, "--input", period)
    filters = ("--tenant", FAILING, "--job", "billing.cycle", "--status", "open")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not local_saas.starter(stack, "dead-letters", "list", *filters):
        hold(time.monotonic() < deadline, "the failure is a dead letter", False)
        time.sleep(POLL_SECONDS)
    [letter] = command(stack, "dead-letters", "list", *filters)
    console.print(f"  {letter['tenant_id']}  {letter['error_type']}: {letter['message']}")
    hold(letter["error_type"] == "UsageNotBillable", "it names its tenant and the failure")
    asyncio.run(with_database(stack, mend))
    command(stack, "dead-letters", "replay", letter["id"])
    query = f"select count(*) from invoices where period = '{FAILING_MONTH}'"  # noqa: S608  # ours
    _until(stack, FAILING, query, 1)
    hold(_count(stack, FAILING, query) == 1, "after the replay, Frontier has the invoice")
    hold(_count(stack, OTHER, query) == 0, "and nobody else has one")


def _until(stack: Stack, tenant: str, query: str, wanted: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while _count(stack, tenant, query) < wanted:
        hold(time.monotonic() < deadline, f"it was done within {PATIENCE_SECONDS:.0f} s", False)
        time.sleep(POLL_SECONDS)


def _count(stack: Stack, tenant: str, query: str) -> int:
    async def count(database: Database) -> int:
        with use_database(database), enter(TenantScope(tenant)):
            async with tenant_session() as session:
                return int(await session.scalar(text(query)) or 0)

    return asyncio.run(with_database(stack, count))
