"""Alerts when messages have been waiting for too long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from temporal_tenancy.core.directory import CachedDirectory
from temporal_tenancy.core.words import duration
from temporal_tenancy.dead_letters.alert_words import OLD_MESSAGES
from temporal_tenancy.dead_letters.alerts import Alert, AlertSink, named, tell_by_tenant
from temporal_tenancy.outbox.inspection import Backlog, backlogs
from temporal_tenancy.outbox.relay import admission
from temporal_tenancy.postgres.database import Database

AGE: Final = timedelta(minutes=15)  # how long a message may be due before the alert


async def alert_on_old_messages(
    database: Database,
    directory: CachedDirectory,
    sinks: Sequence[AlertSink],
    apart: Sequence[Backlog] = (),
) -> None:
    """Sends an alert about tenants whose messages have been due for longer than `AGE`.

    Ignores tenants that a pause or a suspension holds back. Reads all waiting messages of the
    shared outbox; `apart` is what is known of those of tenants in databases of their own.
    """
    async with database.platform_session("check how long messages wait") as session:
        late = [
            backlog
            for backlog in (*await backlogs(session), *apart)
            if backlog.due_since is not None and datetime.now(UTC) - backlog.due_since > AGE
        ]
        tenants = [backlog.tenant_id for backlog in late]
        decided = await admission.decisions(session, tenants)
    records = {tenant.id: tenant for tenant in await directory.find_many(tenants)}
    late = [
        backlog
        for backlog in late
        if admission.held_back(
            records.get(backlog.tenant_id), decided.get(backlog.tenant_id, admission.NOTHING)
        )
        is None
    ]
    since = {
        backlog.tenant_id: backlog.due_since for backlog in late if backlog.due_since is not None
    }
    async with database.platform_session("alert on how long messages wait") as session:
        await tell_by_tenant(session, "outbox.age", since, _alert, sinks)


def _alert(since: Mapping[str, datetime]) -> Alert:
    oldest, due = next(iter(since.items()))
    due_for = datetime.now(UTC) - due
    return Alert(
        name="outbox.age",
        words=OLD_MESSAGES,
        summary=f"messages of {named(since)} have been due for up to {duration(due_for)}.",
        details={
            "tenant_id": oldest,
            "minutes": due_for // timedelta(minutes=1),
            "limit_minutes": int(AGE.total_seconds() // 60),
            "tenants": len(since),
        },
    )
