"""Adds, changes, shows, suspends, resumes and offboards tenants."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import date, datetime
from typing import Any

import typer
from sqlalchemy import select
from temporalio.service import RPCError

from temporal_tenancy.cli import _arguments as arguments
from temporal_tenancy.cli._failures import Refusal
from temporal_tenancy.cli._not_reachable import NotReachable
from temporal_tenancy.cli._server_access import (
    control_plane,
    directory_of,
    each_tenant,
    known_tenant,
    temporal,
)
from temporal_tenancy.cli.answers import (
    Answer,
    facts,
    json_text,
    lines,
    minute,
    number,
    say,
    table,
    when,
)
from temporal_tenancy.cli.program import current_application, quoted
from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.control_plane.tables import TenantRow
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.directory import RUNNABLE, Tenant, TenantStatus
from temporal_tenancy.core.errors import TenantOffboarding
from temporal_tenancy.core.jobs import Job, registry
from temporal_tenancy.core.nearest import nearest
from temporal_tenancy.core.stores import Isolation
from temporal_tenancy.outbox.relay import admission
from temporal_tenancy.outbox.relay.admission import NOTHING
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.stores.placement import Placement
from temporal_tenancy.stores.sign_up import SignUp


class Unconfirmed(Refusal):
    """The command does what cannot be taken back, and waits for a confirmation."""


class TenantsElsewhere(Refusal):
    """The application keeps its tenants in a directory of its own."""


async def add(
    identifier: str,
    *,
    name: str | None,
    plan: str,
    status: str,
    features: Sequence[str],
    time_zone: str,
    trial_ends: str | None,
    isolation: str | None = None,
    store: str | None = None,
    region: str | None = None,
) -> Answer:
    """Adds a tenant in a store; raises a `TenancyError` if it exists or an option is not valid.

    Raises `StoreUnreachable` if the store that it would get does not answer.
    """
    statuses = arguments.statuses(status) or ()
    if len(statuses) != 1 or statuses[0] not in RUNNABLE:
        raise typer.BadParameter("a new tenant is active or trial.", param_hint="--status")
    ends = _day_or_time(trial_ends)
    _refuse_empty(name)
    _refuse_mistyped(features, "--feature")
    wanted = None if isolation is None else arguments.one_of(Isolation, isolation, "--isolation")
    if region is not None and wanted is None and store is None and _always_shares():
        raise typer.BadParameter(
            "the shared store is in no region. Choose a store with --isolation or --store.",
            param_hint="--region",
        )
    async with control_plane() as database:
        _refuse_elsewhere(database, "added")
        tenant = await _sign_up(database).add(
            identifier,
            name or identifier,
            plan=plan,
            status=statuses[0],
            features=features,
            time_zone=time_zone,
            trial_ends_at=ends,
            isolation=wanted,
            store=store,
            region=region,
        )
    _warn_of_unused(tenant, features)
    where = "" if tenant.isolation is Isolation.SHARED else f", in the store {tenant.store}"
    text = f"{tenant.id} is added, {tenant.status} on {tenant.plan.id}{where}."
    return Answer(_document(tenant), text)


def _always_shares() -> bool:
    """Whether nobody but a command chooses another store than the shared one."""
    return current_application().placement is None


def _sign_up(database: Database) -> SignUp:
    application = current_application()
    return SignUp(database, application.connections, application.placement or Placement())


async def change(
    identifier: str,
    *,
    name: str | None,
    plan: str | None,
    time_zone: str | None,
    add_features: Sequence[str],
    remove_features: Sequence[str],
) -> Answer:
    """Changes what is given; raises a `TenancyError` if the tenant or a value does not exist."""
    changes = (name, plan, time_zone, *add_features, *remove_features)
    if all(change is None for change in changes):
        raise typer.BadParameter(
            "say what to change: --name, --plan, --time-zone, --add-feature or --remove-feature."
        )
    _refuse_empty(name)
    _refuse_mistyped(add_features, "--add-feature")
    both = sorted(set(add_features) & set(remove_features))
    if both:
        raise typer.BadParameter(
            f"{both[0]} cannot be added and removed at once.", param_hint="--add-feature"
        )
    async with control_plane() as database:
        before = await _refuse_deleted(database, identifier, "changed")
        tenant = await Tenants(database).change(
            identifier,
            name=name,
            plan=plan,
            time_zone=time_zone,
            add_features=add_features,
            remove_features=remove_features,
        )
    _warn_of_unused(tenant, add_features)
    changed = _differences(before, tenant)
    text = f"{tenant.id} {'is changed.' if changed else 'was like that already.'}"
    return Answer(_document(tenant), lines(text, facts(changed) if changed else None))


async def show_all(status: str | None) -> Answer:
    """Lists the tenants, or those with one of the statuses; their stores if one has its own."""
    async with control_plane() as database:
        wanted = arguments.statuses(status)
        tenants = [tenant async for tenant in each_tenant(database, wanted)]
    columns = ["tenant", "name", "status", "since", "plan", "time zone"]
    rows = [[t.id, t.name, t.status, _day(t), t.plan.id, t.time_zone] for t in tenants]
    if any(tenant.isolation is not Isolation.SHARED for tenant in tenants):
        columns += ["isolation", "store"]
        rows = [[*row, t.isolation, t.store] for row, t in zip(rows, tenants, strict=True)]
    return Answer(
        [_document(tenant) for tenant in tenants],
        table(
            columns,
            rows,
            empty="No tenant has such a status." if wanted else "There are no tenants.",
        ),
    )


async def show(identifier: str) -> Answer:
    """Shows one tenant; raises `TenantUnknown`."""
    async with control_plane() as database:
        tenant = await known_tenant(database, identifier)
        async with database.platform_session("show a tenant") as session:
            decision = (await admission.decisions(session, [tenant.id])).get(tenant.id, NOTHING)
            reason = await session.scalar(
                select(TenantRow.status_reason).where(TenantRow.id == tenant.id)
            )
    plan = tenant.plan
    paused = decision.paused_since is not None
    cap = admission.cap_of(tenant, decision)
    text = facts(
        [
            ("tenant", tenant.id),
            ("name", tenant.name),
            ("status", _status(tenant)),
            ("reason", reason),
            ("messages", admission.held_back(tenant, decision) if paused else None),
            ("cap", None if cap is None else f"{number(cap, 'job')} at once"),
            ("trial ends", minute(tenant.trial_ends_at)),
            ("plan", f"{plan.id}, fairness weight {plan.fairness_weight:g}"),
            ("features", ", ".join(sorted(plan.features | tenant.features))),
            ("time zone", tenant.time_zone),
            ("isolation", tenant.isolation),
            ("store", tenant.store),
            ("settings", json_text(tenant.settings or None)),
        ]
    )
    admitted = {"paused_since": decision.paused_since, "paused_reason": decision.paused_reason}
    document = _document(tenant) | admitted | {"status_reason": reason, "concurrency_cap": cap}
    return Answer(document, text)


async def suspend(identifier: str, reason: str | None) -> Answer:
    """Suspends a tenant, unless it already is suspended, and counts the runs that wait."""
    async with control_plane() as database:
        await _refuse_leaving(database, identifier, "suspended")
        tenant = await Tenants(database).set_status(
            identifier, TenantStatus.SUSPENDED, reason=reason
        )
    text = f"{tenant.id} is {_status(tenant)}."
    return Answer(
        _document(tenant),
        lines(
            text,
            await _waiting(tenant.id),
            f"{quoted(f'tenants resume {tenant.id}')} lets its jobs run again.",
        ),
    )


async def resume(identifier: str) -> Answer:
    """Restores a suspended tenant's earlier status; any other tenant keeps its status.

    Then releases the waiting activities, including those that an earlier call did not reach.
    """
    async with control_plane() as database:
        await _refuse_leaving(database, identifier, "resumed")
        tenant = await Tenants(database).resume(identifier)
    text = f"{tenant.id} is {_status(tenant)}."
    return Answer(_document(tenant), lines(text, await _go_on(tenant.id)))


async def offboard(identifier: str, reason: str | None, *, confirmed: bool) -> Answer:
    """Sets the status `offboarding`, which does not end; the jobs that wait then fail.

    Raises:
        Unconfirmed: without `confirmed`; nothing has changed.
        TenantUnknown: there is no such tenant.
    """
    async with control_plane() as database:
        tenant = await _refuse_deleted(database, identifier, "offboarded")
        before = tenant.status
        if before is not TenantStatus.OFFBOARDING:
            if not confirmed:
                raise Unconfirmed(
                    f"{tenant.id} is {tenant.status}. Offboarding ends its jobs for good: it "
                    f"cannot be resumed. Add --yes to do so."
                )
            tenant = await Tenants(database).set_status(
                identifier, TenantStatus.OFFBOARDING, reason=reason
            )
    ended = await _go_on(tenant.id) if before is TenantStatus.SUSPENDED else None
    still = sorted(job.name for job in registry.values() if _runs_while_offboarding(job))
    return Answer(
        _document(tenant),
        lines(
            f"{tenant.id} is {_status(tenant)}.",
            f"Jobs that still run: {', '.join(still)}." if still else "None of its jobs start.",
            ended,
        ),
    )


def _runs_while_offboarding(job: Job) -> bool:
    return job.is_asked_for and TenantStatus.OFFBOARDING in job.statuses


async def _waiting(tenant: str) -> str | None:
    """Returns how many runs wait for the suspension to end."""
    jobs = [f"'{job.name}'" for job in registry.values() if job.waits_out_suspension]
    if not jobs:
        return None
    query = f"TenantId = '{tenant}' AND ExecutionStatus = 'Running' AND Job IN ({', '.join(jobs)})"
    try:
        async with temporal() as connection:
            waiting = (await connection.client.count_workflows(query)).count
    except (NotReachable, RPCError) as error:
        say(f"The number of waiting runs is not known: {error.message}")
        return None
    return f"Runs that wait until then: {waiting:,}." if waiting else None


async def _go_on(tenant: str) -> str | None:
    """Releases the waiting activities, and returns how many there were."""
    # Imported here: it loads the SDK's worker, which no other command of the group needs.
    from temporal_tenancy.sdk.suspension import release

    try:
        async with temporal() as connection:
            released = await release(connection.client, tenant)
    except (NotReachable, RPCError) as error:
        say(f"Waiting activities continue within a minute of Temporal's return: {error.message}")
        return None
    return f"Waiting activities that continue: {released:,}." if released else None


def _day_or_time(text: str | None) -> datetime | date | None:
    """Parses `--trial-ends`: a day, or a time with an offset."""
    if text is None:
        return None
    with suppress(ValueError):
        return date.fromisoformat(text)
    with suppress(ValueError):
        moment = datetime.fromisoformat(text)
        if moment.utcoffset() is not None:
            return moment
    arguments.require_day(text, option="--trial-ends")
    raise typer.BadParameter(
        "it is a day, such as 2026-12-01, or a time with an offset, such as 2026-12-01T18:00Z.",
        param_hint="--trial-ends",
    )


def _refuse_elsewhere(database: Database, what: str) -> None:
    """Raises `TenantsElsewhere` if the library's own table is not the application's directory."""
    directory = directory_of(database)
    if not isinstance(directory, ControlPlaneDirectory):
        raise TenantsElsewhere(
            f"this application's tenants are in its own directory, {type(directory).__name__}, "
            f"and are {what} there. {quoted('tenants list')} reads it."
        )


async def _refuse_deleted(database: Database, identifier: str, what: str) -> Tenant:
    _refuse_elsewhere(database, what)
    tenant = await known_tenant(database, identifier)
    if tenant.status is TenantStatus.DELETED:
        raise _leaving(tenant, what)
    return tenant


async def _refuse_leaving(database: Database, identifier: str, what: str) -> Tenant:
    _refuse_elsewhere(database, what)
    tenant = await known_tenant(database, identifier)
    if tenant.status in (TenantStatus.OFFBOARDING, TenantStatus.DELETED):
        raise _leaving(tenant, what)
    return tenant


def _leaving(tenant: Tenant, what: str) -> TenantOffboarding:
    return TenantOffboarding(f"{tenant.id} is {_status(tenant)}, and cannot be {what}.")


def _differences(before: Tenant, after: Tenant) -> Sequence[tuple[str, object]]:
    """Returns what has changed, for people."""
    values = {
        "name": (before.name, after.name),
        "plan": (before.plan.id, after.plan.id),
        "features": tuple(
            ", ".join(sorted(tenant.plan.features | tenant.features)) or "none"
            for tenant in (before, after)
        ),
        "time zone": (before.time_zone, after.time_zone),
    }
    return [(what, f"{old} → {new}") for what, (old, new) in values.items() if old != new]


def _refuse_empty(name: str | None) -> None:
    """Raises `typer.BadParameter` for a name without a visible character."""
    if name is not None and not name.strip():
        raise typer.BadParameter("a name has at least one character.", param_hint="--name")


def _refuse_mistyped(features: Sequence[str], option: str) -> None:
    """Raises `typer.BadParameter` for a feature that no job needs and that is like one that is.

    One that is like no other may be the application's own, which it asks for in its code.
    """
    needed = {job.feature for job in registry.values() if job.feature} if features else set()
    for feature in features:
        meant = None if feature in needed else nearest(feature, needed)
        if meant is not None:
            raise typer.BadParameter(
                f'no job needs the feature "{feature}". Did you mean "{meant}"?', param_hint=option
            )


def _warn_of_unused(tenant: Tenant, added: Sequence[str]) -> None:
    """Warns of a feature that may be mistyped: no job needs it."""
    needed = {job.feature for job in registry.values()} if added else set()
    for feature in added:
        if feature not in needed:
            known = ", ".join(sorted(filter(None, needed)))
            say(f'No job needs the feature "{feature}" of {tenant.id}. Jobs need: {known}.')


def _day(tenant: Tenant) -> date | None:
    known = tenant.known_since
    return None if known is None else known.date()


def _status(tenant: Tenant) -> str:
    known = tenant.known_since
    return str(tenant.status) if known is None else f"{tenant.status} since {when(known)}"


def _document(tenant: Tenant) -> dict[str, Any]:
    return {
        "id": tenant.id,
        "name": tenant.name,
        "status": tenant.status,
        "status_since": tenant.known_since,
        "trial_ends_at": tenant.trial_ends_at,
        "plan": tenant.plan.id,
        "features": sorted(tenant.plan.features | tenant.features),
        "time_zone": tenant.time_zone,
        "settings": tenant.settings,
        "isolation": tenant.isolation,
        "store": tenant.store,
    }
