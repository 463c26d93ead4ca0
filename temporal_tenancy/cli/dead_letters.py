"""Dead letters: listed, shown, discarded."""

from __future__ import annotations

import getpass
import os
from collections import Counter
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import typer

from temporal_tenancy.cli import _given as reading
from temporal_tenancy.cli._failures import DeadLetterAmbiguous, DeadLetterUnknown, FilterMissing
from temporal_tenancy.cli._server_access import as_platform, control_plane, servers
from temporal_tenancy.cli.answers import Answer, address, facts, lines, number, say, table, when
from temporal_tenancy.cli.program import message_with_hint, quoted, with_hint
from temporal_tenancy.control_plane.tables import DeadLetterRow, DeadLetterState
from temporal_tenancy.core.identifiers import tenant_id
from temporal_tenancy.core.payloads import NotReadable, read
from temporal_tenancy.dead_letters import letters
from temporal_tenancy.dead_letters.inputs import kept_input
from temporal_tenancy.dead_letters.letters import Filter
from temporal_tenancy.postgres.database import platform_session

PAGE_SIZE: Final = 500  # letters
SHOWN: Final = 20  # letters in a person's answer
TEXT_SHOWN: Final = 1_000  # characters of an input that cannot be read


def filter_of(
    *,
    tenant: str | None,
    job: str | None,
    fingerprint: str | None,
    older_than: str | None,
    newer_than: str | None,
    status: str | None,
) -> Filter:
    """A filter made of options; raises `typer.BadParameter` or `TenantInvalid`.

    The job need not be in the registry: one that was removed may still have letters.
    """
    try:
        state = None if status is None else DeadLetterState(status)
    except ValueError:
        raise typer.BadParameter(
            f"it is one of {', '.join(DeadLetterState)}.", param_hint="--status"
        ) from None
    return Filter(
        tenant_id=None if tenant is None else tenant_id(tenant),
        job=job,
        fingerprint=fingerprint,
        older_than=reading.age(older_than, option="--older-than"),
        newer_than=reading.age(newer_than, option="--newer-than"),
        status=state,
    )


async def show_all(where: Filter, limit: int) -> Answer:
    """The letters that failed last, in every state unless the filter names one."""
    async with (
        control_plane() as database,
        database.platform_session("list dead letters") as session,
    ):
        found = await letters.latest(session, where, limit=limit)
        matching = len(found) if len(found) < limit else await letters.count(session, where)
    if matching > len(found):
        say(
            f"{len(found):,} of {matching:,} dead letters, the latest of each tenant by turns. "
            "--limit shows more, and --tenant one tenant's."
        )
    rows = [
        (each.id, each.tenant_id, each.job, each.status, each.error_type, each.fingerprint,
         when(each.failed_at))
        for each in found
    ]  # fmt: skip
    titles = ("id", "tenant", "job", "status", "error", "fingerprint", "failed")
    return Answer([document_of(each) for each in found], table(titles, rows))


async def show(given: str, tenant: str | None) -> Answer:
    """One letter with the input that was kept; `tenant` decides if several have that id.

    Raises:
        DeadLetterUnknown: there is none.
        DeadLetterAmbiguous: several tenants have one.
    """
    owner = None if tenant is None else tenant_id(tenant)
    async with servers() as there:
        with as_platform(there.database):
            [letter] = await find([given], owner)
            kept = _shown(await kept_input(letter))
        url = there.link(letter.workflow_id, letter.run_id)
    document = {**document_of(letter), "input": kept, "url": url}
    text = facts(
        [
            ("id", letter.id),
            ("tenant", letter.tenant_id),
            ("job", letter.job),
            ("workflow", letter.workflow_id),
            ("run", letter.run_id),
            ("failed", f"{when(letter.failed_at)}, after {number(letter.attempts, 'attempt')}"),
            ("why", with_hint(f"{letter.error_type}: {letter.message}")),
            ("fingerprint", letter.fingerprint),
            ("status", letter.status),
            ("replays", letter.replays),
            ("handled", _handled(letter)),
            ("input", kept),
        ]
    )
    replay = f"{quoted(f'dead-letters replay {_words(letter, tenant)}')} starts it again."
    return Answer(document, lines(text, address(url), None if _is_done(letter) else replay))


async def discard(given: Sequence[str], where: Filter, by: str | None) -> Answer:
    """Discards open letters; leaves alone those whose job runs again or has succeeded.

    Raises:
        FilterMissing: neither ids nor a filter narrow them down.
        DeadLetterUnknown, DeadLetterAmbiguous: one of the ids is none, or several tenants'.
    """
    _check(given, where)
    who = by or operator()
    async with control_plane() as database:
        with as_platform(database):
            found = await chosen(given, where)
            async with platform_session("discard dead letters") as session:
                done = set(await letters.discard(session, found, who))
    left = [each for each in found if (each.tenant_id, each.id) not in done]
    document = {
        "matched": len(found),
        "discarded": len(done),
        "letters": [
            {"id": str(each.id), "tenant_id": each.tenant_id,
             "status": "discarded" if (each.tenant_id, each.id) in done else each.status}
            for each in found
        ],
    }  # fmt: skip
    rows = [(each.id, each.workflow_id, each.status) for each in left[:SHOWN]]
    return Answer(
        document,
        lines(
            f"{number(len(done), 'dead letter')} discarded by {who}.",
            f"{number(len(left), 'dead letter')} left alone, not open or locked by its tenant:"
            if left
            else None,
            table(("id", "workflow", "status"), rows) if left else None,
        ),
    )


async def chosen(given: Sequence[str], where: Filter) -> Sequence[DeadLetterRow]:
    """The letters of these ids, or those that match a filter: open ones, unless it has a status."""
    _check(given, where)
    if given:
        return await find(given, where.tenant_id)
    if where.status is None:
        where = Filter(**{**vars(where), "status": DeadLetterState.OPEN})
    found: list[DeadLetterRow] = []
    now = datetime.now(UTC)
    while True:
        after = (found[-1].tenant_id, found[-1].id) if found else None
        async with platform_session("read dead letters") as session:
            page = await letters.page(session, where, after=after, limit=PAGE_SIZE, now=now)
        if not page:
            return found
        found += page


async def find(given: Sequence[str], tenant: str | None) -> Sequence[DeadLetterRow]:
    """The letters of these ids, whether `tenant`'s or anybody's.

    Raises:
        DeadLetterUnknown: one of the ids is none.
        DeadLetterAmbiguous: one of the ids is several tenants'.
    """
    ids = {_uuid(each) for each in given}
    async with platform_session("read dead letters") as session:
        found = await letters.find(session, sorted(ids), tenant_id=tenant)
    _refuse_unknown(ids - {each.id for each in found}, tenant)
    _refuse_ambiguous(found)
    return found


def operator() -> str:
    """The name of the user who gives this command."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"uid {os.getuid()}"


def document_of(letter: DeadLetterRow) -> dict[str, Any]:
    """A letter as JSON has it."""
    return {
        "id": str(letter.id),
        "tenant_id": letter.tenant_id,
        "job": letter.job,
        "source": letter.source,
        "workflow_id": letter.workflow_id,
        "run_id": letter.run_id,
        "error_type": letter.error_type,
        "message": message_with_hint(letter.error_type, letter.message),
        "fingerprint": letter.fingerprint,
        "attempts": letter.attempts,
        "status": letter.status,
        "failed_at": letter.failed_at,
        "replays": letter.replays,
        "replay_run_id": letter.replay_run_id,
        "handled_at": letter.handled_at,
        "handled_by": letter.handled_by,
    }


def _check(given: Sequence[str], where: Filter) -> None:
    if not given and where.is_empty:
        raise FilterMissing(
            "that would be every dead letter there is. Name ids, or narrow them down by --tenant, "
            "--job, --fingerprint, --older-than or --newer-than."
        )
    if given and where != Filter(tenant_id=where.tenant_id):
        raise typer.BadParameter(
            "name ids (and whose they are, by --tenant), or a filter, and not both.",
            param_hint="ID",
        )


def _uuid(given: str) -> UUID:
    try:
        return UUID(given)
    except ValueError:
        raise typer.BadParameter(f"{given!r} is not a dead letter's id.", param_hint="ID") from None


def _refuse_unknown(ids: Collection[UUID], tenant: str | None) -> None:
    if ids:
        of_tenant = "" if tenant is None else f" of {tenant}"
        raise DeadLetterUnknown(
            f"there is no dead letter {min(ids)}{of_tenant}. "
            f"{quoted('dead-letters list')} shows all."
        )


def _shown(kept: str | None) -> Any:  # JSON
    """An input for people: its value, or the beginning of a text that is not readable JSON."""
    if kept is None:
        return None
    try:
        return read(kept)
    except NotReadable as error:
        start = kept if len(kept) <= TEXT_SHOWN else f"{kept[:TEXT_SHOWN]}…"
        return f"{start} (it cannot be read: it {error})".lstrip()


def _refuse_ambiguous(found: Sequence[DeadLetterRow]) -> None:
    for id, tenants in Counter(each.id for each in found).items():
        if tenants > 1:
            raise DeadLetterAmbiguous(
                f"{tenants} tenants have a dead letter {id}. Say whose is meant by --tenant."
            )


def _words(letter: DeadLetterRow, tenant: str | None) -> str:
    """How a command names a letter."""
    return str(letter.id) if tenant is None else f"{letter.id} --tenant {tenant}"


def _handled(letter: DeadLetterRow) -> str | None:
    if letter.handled_at is None:
        return None
    return f"{when(letter.handled_at)} by {letter.handled_by}"


def _is_done(letter: DeadLetterRow) -> bool:
    return letter.status == DeadLetterState.RESOLVED
