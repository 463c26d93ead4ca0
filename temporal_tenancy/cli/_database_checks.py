"""The doctor's checks of the database, with the login of each runtime role."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.lint.catalogue import Finding, lint, refuse_excess_rights
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database_errors import DatabaseProblem, DatabaseUnreachable
from temporal_tenancy.postgres.migrations import refuse_pending
from temporal_tenancy.postgres.moving import views_of_old_names

CLOCK_SKEW: Final = 2.0  # seconds; the ledger compares times of both clocks
FINDINGS_SHOWN: Final = 5

_PASSWORDLESS: Final = "passwordless-login"  # the lint's name for a finding
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
            refuse_excess_rights(connection)
    except DatabaseProblem as error:
        hint = application.how_to_start if isinstance(error, DatabaseUnreachable) else ""
        return failed(name, f"{error.message} {hint}".rstrip())
    except ConfigurationError as error:
        return failed(name, f"{setting}: {error}")
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
    findings = lint(connection, environments=needed, installation=application.installation)
    logins = [finding for finding in findings if finding.check == _PASSWORDLESS]
    rights = [finding for finding in findings if finding.open]
    others = [finding for finding in findings if finding not in (*logins, *rights)]
    yield _row_security(others)
    yield _open_rights(rights)
    yield _logins(logins)
    yield _clock(connection)


def _old_names(application: Application, connection: psycopg.Connection[Any]) -> str:
    """A sentence that says which views a move has left; empty if there are none."""
    views = views_of_old_names(connection, application.installation.schema)
    if not views:
        return ""
    return (
        f" {number(len(views), 'view')} in public serve processes of an earlier release; "
        f"{quoted('migrate --move --finish')} drops them."
    )


def _row_security(findings: Sequence[Finding]) -> Check:
    if not findings:
        return ok("row-level security", "the catalogue lint finds nothing wrong.")
    return failed("row-level security", _shown(findings))


def _open_rights(findings: Sequence[Finding]) -> Check:
    """Warns of rights that weaken no policy, but that nobody may have meant to give."""
    if not findings:
        return ok("open rights", "no role has a right that it does not need.")
    hint = ""
    if any(finding.check == "public-grant" for finding in findings):
        hint = f" {quoted('migrate --harden')} lists what every role has and can lose."
    return warning("open rights", f"row-level security holds, but: {_shown(findings)}{hint}")


def _shown(findings: Sequence[Finding]) -> str:
    more = len(findings) - FINDINGS_SHOWN
    shown = " ".join(str(finding) for finding in findings[:FINDINGS_SHOWN])
    return f"{shown} And {number(more, 'finding')} more." if more > 0 else shown


def _logins(findings: Sequence[Finding]) -> Check:
    if findings:
        return failed("logins", " ".join(finding.message for finding in findings))
    return ok("logins", "no role can log in without a password.")


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
