"""The doctor's checks of the database, with the login of each runtime role."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import psycopg

from temporal_tenancy.cli._server_access import environments
from temporal_tenancy.cli._verdicts import Check, failed, ok, skipped, warning
from temporal_tenancy.cli.answers import number
from temporal_tenancy.cli.program import (
    Application,
    Login,
    current_application,
    message_with_hint,
    quoted,
)
from temporal_tenancy.core.display import printable
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.tenant_id_types import declared_type
from temporal_tenancy.lint.catalogue import Finding, lint
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database_errors import (
    MAKE_THE_ROLE,
    DatabaseProblem,
    DatabaseUnreachable,
    InstallationElsewhere,
)
from temporal_tenancy.postgres.migrations import refuse_pending
from temporal_tenancy.postgres.moving import places_of, views_of_old_names
from temporal_tenancy.postgres.role_checks import excess_rights
from temporal_tenancy.postgres.schema_in_use import schema_in_use
from temporal_tenancy.stores.drift import triggers_of_migrations

CLOCK_SKEW: Final = 2.0  # seconds; the ledger compares times of both clocks

_PASSWORDLESS: Final = "passwordless-login"  # the lint's name for a finding
_SHARED_TABLE: Final = "shared-table"  # likewise
_ONCE: Final = ("migrations", "row-level security", "open rights", "logins", "clock")


def database_checks() -> Sequence[Check]:
    """Checks each role's login and rights, then migrations, catalogue, logins and clock."""
    application = current_application()
    roles = application.installation.roles
    logins = (
        (roles.tenant, application.tenant),
        (roles.platform, application.platform),
        (roles.relay, application.relay),
    )
    checks = [_role(application, role, login) for role, login in logins]
    url = application.platform.url
    try:
        if url is None:
            raise DatabaseUnreachable(f"{application.platform.setting} is not set.")
        with connect(url) as connection:
            return [*checks, *_whole(application, url, connection)]
    except (DatabaseUnreachable, ConfigurationError):
        return [*checks, *skipped(_ONCE, f"{roles.platform} cannot log in.")]


def _role(application: Application, role: str, login: Login) -> Check:
    name, setting = f"role {role}", login.setting
    if login.url is None:
        if role == application.installation.roles.relay:
            return skipped([name], f"{setting} is not set; only a relay needs it.")[0]
        how = login.how or application.how_to_start
        return failed(name, f"{setting} is not set. {how}".rstrip())
    try:
        with connect(login.url) as connection:
            at = f"{connection.info.host}:{connection.info.port}/{connection.info.dbname}"
            if connection.info.user != role:
                return failed(
                    name, f"{setting} logs in as {connection.info.user}. Log in as {role}."
                )
            excess = excess_rights(connection, [role], through_public=True)
    except DatabaseUnreachable as error:
        how, message = application.how_to_start, error.message
        if MAKE_THE_ROLE in message:
            how = f"Or correct {setting}."
            makes = (
                f"Run {quoted('migrate')}, which makes the roles with the passwords of the URLs."
            )
            message = message.replace(MAKE_THE_ROLE, makes)
        return failed(name, f"{setting}: {message} {how}".rstrip())
    except ConfigurationError as error:
        return failed(name, f"{setting}: {error}")
    if excess:
        return failed(name, _listed("it has rights that no runtime role needs:", excess))
    return ok(name, f"logs in to {at}, and has no excess rights.")


def _whole(
    application: Application, url: str, connection: psycopg.Connection[Any]
) -> Iterator[Check]:
    needed = environments(application)
    try:
        refuse_pending(url, needed, installation=application.installation)
        yield ok("migrations", f"all are applied.{_old_names(application, connection)}")
    except DatabaseProblem as error:
        yield failed("migrations", message_with_hint(type(error).__name__, error.message))
    except InstallationElsewhere as error:
        yield failed("migrations", message_with_hint(type(error).__name__, str(error)))
        yield from skipped(_ONCE[1:-1], "the library's tables are in another schema.")
        yield _clock(connection)
        return
    schema = schema_in_use(connection, application.installation.schema)
    findings = lint(
        connection,
        environments=needed,
        installation=application.installation,
        declared=declared_type(),
        allowed=triggers_of_migrations(connection, schema=schema),
    )
    logins = [finding for finding in findings if finding.check == _PASSWORDLESS]
    rights = [finding for finding in findings if finding.open]
    others = [finding for finding in findings if finding not in (*logins, *rights)]
    yield _row_security(others)
    yield _open_rights(rights, holds=not others, shared=application.shared_tables)
    yield _logins(logins)
    yield _clock(connection)


def _old_names(application: Application, connection: psycopg.Connection[Any]) -> str:
    """A sentence that says which views a move has left; empty if there are none."""
    views = views_of_old_names(connection, application.installation.schema)
    if not views:
        return ""
    return (
        f" {number(len(views), 'view')} in {places_of(views)} serve processes that know the old "
        f"names; {quoted('migrate --move --finish')} drops them."
    )


def _row_security(findings: Sequence[Finding]) -> Check:
    if not findings:
        return ok("row-level security", "the catalogue lint finds nothing wrong.")
    return failed("row-level security", _listed("the catalogue lint finds faults:", findings))


def _open_rights(findings: Sequence[Finding], *, holds: bool, shared: Mapping[str, str]) -> Check:
    """Warns of rights that weaken no policy, but that nobody may have meant to give.

    `shared` are the tables that all tenants may use, each with the reason.
    """
    known = [each for each in findings if each.check == _SHARED_TABLE and each.object in shared]
    others: list[object] = [each for each in findings if each not in known]
    found = {each.object for each in known}
    agreed = [f"{each.object} is shared: {shared[each.object]}." for each in known]
    stale = [
        f"{printable(table)} is named in shared_tables=, and is no table that every tenant may "
        "use. Leave it out."
        for table in shared
        if table not in found
    ]
    if not others and not stale:
        return ok("open rights", _listed("no role has a right that it does not need.", agreed))
    hint = ""
    if any(finding.check == "public-grant" for finding in findings):
        hint = f"{quoted('migrate --harden')} lists what every role has and can lose."
    if any(each.check == _SHARED_TABLE for each in findings if each not in known):
        hint = f"{hint} Application(shared_tables=...) takes the tables meant for all.".lstrip()
    first = "row-level security holds, but:" if holds else "beside those faults:"
    return warning("open rights", _listed(first, [*others, *stale, *agreed], hint))


def _logins(findings: Sequence[Finding]) -> Check:
    if not findings:
        return ok("logins", "no role can log in without a password.")
    if len(findings) == 1:
        return failed("logins", findings[0].message)
    *first, last = [finding.object for finding in findings]
    return failed(
        "logins",
        f"the roles {', '.join(first)} and {last} can log in without a password, so anybody who "
        "reaches the server can use them. Require scram-sha-256 in the server's pg_hba.conf.",
    )


def _listed(beginning: str, findings: Sequence[object], ending: str = "") -> str:
    """Returns the findings, one a line, between two lines of their own."""
    return "\n".join(line for line in (beginning, *map(str, findings), ending) if line)


def _clock(connection: psycopg.Connection[Any]) -> Check:
    before = datetime.now(UTC)
    row = connection.execute("select clock_timestamp()").fetchone()
    after = datetime.now(UTC)
    assert row is not None
    skew = abs((row[0] - (before + (after - before) / 2)).total_seconds())
    if skew > CLOCK_SKEW:
        return failed(
            "clock", f"this machine and the database differ by {skew:.1f} s. Set both by NTP."
        )
    return ok("clock", "this machine and the database agree.")
