"""Lists, shows and discards dead letters."""

from __future__ import annotations

import getpass
import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import typer

from temporal_tenancy.cli import _arguments as arguments
from temporal_tenancy.cli._failures import DeadLetterAmbiguous, DeadLetterUnknown, FilterMissing
from temporal_tenancy.cli._server_access import (
    as_platform,
    control_plane,
    known_tenant,
    servers,
)
from temporal_tenancy.cli.answers import (
    Answer,
    address,
    facts,
    json_text,
    lines,
    minute,
    say,
    table,
    when,
    whole,
)
from temporal_tenancy.cli.program import message_with_hint, quoted, with_hint
from temporal_tenancy.control_plane.tables import DeadLetterRow, DeadLetterState
from temporal_tenancy.core.directory import Tenant, current_directory
from temporal_tenancy.core.errors import TenantOffboarding
from temporal_tenancy.core.identifiers import tenant_id
from temporal_tenancy.core.jobs import registry
from temporal_tenancy.core.payloads import NotReadable, read
from temporal_tenancy.core.tenant_state import refusal
from temporal_tenancy.core.words import number
from temporal_tenancy.dead_letters import letters
from temporal_tenancy.dead_letters.inputs import kept_input
from temporal_tenancy.dead_letters.letters import Filter
from temporal_tenancy.postgres.database import Database, current_database, platform_session

PAGE_SIZE: Final = 500  # letters
SHOWN: Final = 20  # letters, in the text for people
TEXT_SHOWN: Final = 1_000  # characters of an unreadable input


def filter_of(
    *,
    tenant: str | None,
    job: str | None,
    fingerprint: str | None,
    older_than: str | None,
    newer_than: str | None,
    status: str | None,
) -> Filter:
    """Builds a filter from options; raises `typer.BadParameter` or `TenantInvalid`.

    The job need not be in the registry: a removed job may still have letters.
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
        older_than=arguments.age(older_than, option="--older-than"),
        newer_than=arguments.age(newer_than, option="--newer-than"),
        status=state,
    )


async def show_all(where: Filter, limit: int) -> Answer:
    """Lists the latest letters, in every state unless the filter names one."""
    async with (
        control_plane() as database,
        database.platform_session("list dead letters") as session,
    ):
        matches = await letters.latest(session, where, limit=limit)
        matching = len(matches) if len(matches) < limit else await letters.count(session, where)
        if not matches:
            await _refuse_typos(database, where)
    if matching > len(matches):
        say(
            f"{len(matches):,} of {number(matching, 'dead letter')}, the latest of each tenant by "
            "turns. --limit shows more; --tenant selects one tenant."
        )
    rows = [
        (letter.id, letter.tenant_id, letter.job, _key(letter), letter.status, letter.error_type,
         letter.fingerprint, minute(letter.failed_at))
        for letter in matches
    ]  # fmt: skip
    titles = ("id", "tenant", "job", "key", "status", "error", "fingerprint", "failed")
    return Answer(
        [document_of(letter) for letter in matches], table(titles, rows, empty=_none(where))
    )


async def show(letter_id: str, tenant: str | None) -> Answer:
    """Shows one letter with its stored input; `tenant` decides if several have that id.

    Raises:
        DeadLetterUnknown: the letter does not exist.
        DeadLetterAmbiguous: several tenants have a letter with that id.
    """
    owner = None if tenant is None else tenant_id(tenant)
    async with servers() as connections:
        with as_platform(connections.database):
            [letter] = await find([letter_id], owner)
            kept = _shown(await kept_input(letter))
            owner_now = await current_directory().find(letter.tenant_id)
        url = connections.link(letter.workflow_id, letter.run_id)
    document = {**document_of(letter), "input": kept, "url": url}
    text = facts(
        [
            ("id", letter.id),
            ("tenant", letter.tenant_id),
            ("job", letter.job),
            ("workflow", whole(letter.workflow_id)),
            ("run", letter.run_id and whole(letter.run_id)),
            ("failed", f"{when(letter.failed_at)}, after {number(letter.attempts, 'attempt')}"),
            ("why", with_hint(f"{letter.error_type}: {letter.message}")),
            ("fingerprint", letter.fingerprint),
            ("status", letter.status),
            ("replays", letter.replays),
            ("handled", _handled(letter)),
            ("input", json_text(kept)),
        ]
    )
    advice = None if _is_done(letter) else _advice(letter, owner_now, _words(letter, tenant))
    return Answer(document, lines(text, address(url), advice))


def _key(letter: DeadLetterRow) -> str:
    """Returns the last part of a letter's workflow id."""
    return whole(letter.workflow_id.split("/", 2)[-1])


def _advice(letter: DeadLetterRow, owner: Tenant | None, words: str) -> str:
    """Returns what to do about a letter: a tenant that leaves runs its job no more."""
    job = registry.get(letter.job)
    refused = None if owner is None or job is None else refusal(owner, job)
    if isinstance(refused, TenantOffboarding):
        return f"{refused.message} {quoted(f'dead-letters discard {words}')} puts it away."
    return f"{quoted(f'dead-letters replay {words}')} starts it again."


async def discard(ids: Sequence[str], where: Filter, by: str | None) -> Answer:
    """Discards open letters; skips those whose job runs again or has succeeded.

    Raises:
        FilterMissing: the command has neither ids nor a filter.
        DeadLetterUnknown: an id is not a letter's.
        DeadLetterAmbiguous: several tenants have a letter with one of the ids.
    """
    _check(ids, where)
    who = by or operator()
    async with control_plane() as database:
        with as_platform(database):
            matches = await chosen(ids, where)
            async with platform_session("discard dead letters") as session:
                discarded = set(await letters.discard(session, matches, who))
    untouched = [letter for letter in matches if (letter.tenant_id, letter.id) not in discarded]
    document = {
        "matched": len(matches),
        "discarded": len(discarded),
        "letters": [
            {"id": str(letter.id), "tenant_id": letter.tenant_id,
             "status": "discarded" if (letter.tenant_id, letter.id) in discarded else letter.status}
            for letter in matches
        ],
    }  # fmt: skip
    rows = [(letter.id, whole(letter.workflow_id), letter.status) for letter in untouched[:SHOWN]]
    more = len(untouched) - SHOWN
    return Answer(
        document,
        lines(
            f"{number(len(discarded), 'dead letter')} discarded by {who}.",
            f"{number(len(untouched), 'dead letter')} left alone, not open or locked by its tenant:"
            if untouched
            else None,
            table(("id", "workflow", "status"), rows) if untouched else None,
            f"and {more:,} more; --json shows all." if more > 0 else None,
        ),
    )


async def chosen(ids: Sequence[str], where: Filter) -> Sequence[DeadLetterRow]:
    """Returns the letters of these ids, or of a filter: only open ones unless it has a status."""
    _check(ids, where)
    if ids:
        return await find(ids, where.tenant_id)
    asked = where
    if where.status is None:
        where = replace(where, status=DeadLetterState.OPEN)
    matches: list[DeadLetterRow] = []
    now = datetime.now(UTC)
    while True:
        after = (matches[-1].tenant_id, matches[-1].id) if matches else None
        async with platform_session("read dead letters") as session:
            page = await letters.page(session, where, after=after, limit=PAGE_SIZE, now=now)
        if not page and not matches:
            await _refuse_typos(current_database(), asked)
        if not page:
            return matches
        matches += page


async def find(ids: Sequence[str], tenant: str | None) -> Sequence[DeadLetterRow]:
    """Returns the letters of these ids, of `tenant` or, if it is None, of any tenant.

    Raises:
        DeadLetterUnknown: an id is not a letter's.
        DeadLetterAmbiguous: several tenants have a letter with one of the ids.
    """
    uuids = {_uuid(each) for each in ids}
    async with platform_session("read dead letters") as session:
        matches = await letters.find(session, sorted(uuids), tenant_id=tenant)
    _refuse_unknown(uuids - {each.id for each in matches}, tenant)
    _refuse_ambiguous(matches)
    return matches


def operator() -> str:
    """Returns the name of the user who runs this command."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"uid {os.getuid()}"


def document_of(letter: DeadLetterRow) -> dict[str, Any]:
    """Returns a letter as JSON."""
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


def _check(ids: Sequence[str], where: Filter) -> None:
    if not ids and where.is_empty:
        raise FilterMissing(
            "this would match every dead letter. Name ids, or narrow them down with --tenant, "
            "--job, --fingerprint, --older-than or --newer-than."
        )
    if ids and where != Filter(tenant_id=where.tenant_id):
        raise typer.BadParameter(
            "name ids (with --tenant if needed) or a filter, but not both.",
            param_hint="ID",
        )


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a dead letter's id.", param_hint="ID") from None


def _refuse_unknown(ids: Collection[UUID], tenant: str | None) -> None:
    if ids:
        of_tenant = "" if tenant is None else f" of {tenant}"
        raise DeadLetterUnknown(
            f"there is no dead letter {min(ids)}{of_tenant}. "
            f"{quoted('dead-letters list')} lists them."
        )


def _shown(kept: str | None) -> Any:  # JSON
    """Returns an input for people: its value, or the beginning of unreadable text."""
    if kept is None:
        return None
    try:
        return read(kept)
    except NotReadable as error:
        start = kept if len(kept) <= TEXT_SHOWN else f"{kept[:TEXT_SHOWN]}…"
        return f"{start} (it cannot be read: it {error})".lstrip()


def _refuse_ambiguous(matches: Sequence[DeadLetterRow]) -> None:
    for id, tenants in Counter(letter.id for letter in matches).items():
        if tenants > 1:
            raise DeadLetterAmbiguous(
                f"{number(tenants, 'tenant')} have a dead letter {id}. Choose one with --tenant."
            )


def _words(letter: DeadLetterRow, tenant: str | None) -> str:
    """Returns the arguments that name a letter in a command."""
    return str(letter.id) if tenant is None else f"{letter.id} --tenant {tenant}"


def _handled(letter: DeadLetterRow) -> str | None:
    if letter.handled_at is None:
        return None
    return f"{when(letter.handled_at)} by {letter.handled_by}"


async def _refuse_typos(database: Database, where: Filter) -> None:
    """Raises `TenantUnknown` or `UnknownJob` for a filter that matches nothing because of a typo.

    A tenant or job that there is no longer may still have letters, but one without any is mistyped.
    """
    if where.tenant_id is not None:
        await known_tenant(database, where.tenant_id)
    if where.job is not None and where.job not in registry:
        only = Filter(tenant_id=where.tenant_id, job=where.job)
        async with database.platform_session("look for a job's dead letters") as session:
            if not await letters.count(session, only):
                registry.get_or_raise(where.job)


def _none(where: Filter) -> str:
    """Returns the sentence for a list without letters."""
    status = "" if where.status is None else f" {where.status}"
    rest = replace(where, status=None)
    return f"No{status} dead letter matches." if not rest.is_empty else f"No{status} dead letters."


def _is_done(letter: DeadLetterRow) -> bool:
    return letter.status == DeadLetterState.RESOLVED
