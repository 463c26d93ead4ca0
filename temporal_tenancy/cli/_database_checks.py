"""The doctor's checks of the database, with the login of each runtime role."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import psycopg

from temporal_tenancy.cli._server_access import environments
from temporal_tenancy.cli._verdicts import Check, failed, ok, skipped
from temporal_tenancy.cli.answers import number
from temporal_tenancy.cli.program import (
    Application,
    Login,
    current_application,
    message_with_hint,
)
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.lint.catalogue import Finding, lint, refuse_excess_rights
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database_errors import DatabaseProblem, DatabaseUnreachable
from temporal_tenancy.postgres.migrations import refuse_pending
from temporal_tenancy.postgres.roles import PLATFORM_ROLE, RELAY_ROLE, TENANT_ROLE

CLOCK_SKEW: Final = 2.0  # seconds; the ledger compares times of both clocks
FINDINGS_SHOWN: Final = 5

_PASSWORDLESS: Final = "passwordless-login"  # the lint's name for a finding
_ONCE: Final = ("migrations", "row-level security", "logins", "clock")


def database_checks() -> Sequence[Check]:
    """Checks each role's login and rights, then migrations, catalogue, logins and clock."""
    application = current_application()
    roles = (
        (TENANT_ROLE, application.tenant),
        (PLATFORM_ROLE, application.platform),
        (RELAY_ROLE, application.relay),
    )
    checks = [_role(application, role, login) for role, login in roles]
    url = application.platform.url
    try:
        if url is None:
            raise DatabaseUnreachable(f"{application.platform.setting} is not set.")
        with connect(url) as connection:
            return [*checks, *_whole(application, url, connection)]
    except (DatabaseUnreachable, ConfigurationError):
        return [*checks, *skipped(_ONCE, f"{PLATFORM_ROLE} cannot log in.")]


def _role(application: Application, role: str, login: Login) -> Check:
    name, setting = f"role {role}", login.setting
    if login.url is None:
        if role == RELAY_ROLE:
            return skipped([name], f"{setting} is not set; only a relay needs it.")[0]
        return failed(name, f"{setting} is not set. {application.how_to_start}".rstrip())
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
        refuse_pending(url, needed)
        yield ok("migrations", "all are applied.")
    except DatabaseProblem as error:
        yield failed("migrations", message_with_hint(type(error).__name__, error.message))
    findings = lint(connection, environments=needed)
    yield _lint(
        "row-level security", [finding for finding in findings if finding.check != _PASSWORDLESS]
    )
    yield _logins([finding for finding in findings if finding.check == _PASSWORDLESS])
    yield _clock(connection)


def _lint(name: str, findings: Sequence[Finding]) -> Check:
    if not findings:
        return ok(name, "the catalogue lint finds nothing wrong.")
    more = len(findings) - FINDINGS_SHOWN
    shown = " ".join(str(finding) for finding in findings[:FINDINGS_SHOWN])
    return failed(name, f"{shown} And {number(more, 'finding')} more." if more > 0 else shown)


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
