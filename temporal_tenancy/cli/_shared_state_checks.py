"""The doctor's check of the Redis that the application's processes share."""

from __future__ import annotations

from collections.abc import Sequence

from temporal_tenancy.cli._verdicts import Check, failed, ok
from temporal_tenancy.cli.program import current_application
from temporal_tenancy.core.errors import ConfigurationError, MissingExtra

NAME = "redis"


async def shared_state_checks() -> Sequence[Check]:
    """Checks that the server answers; nothing where the application names none."""
    login = current_application().redis
    if login is None or login.url is None:
        return []
    try:
        # Imported here, as only an application that shares state needs the extra.
        from temporal_tenancy.shared_state import SharedState

        state = SharedState(login.url)
    except MissingExtra as error:
        return [failed(NAME, str(error))]
    except ConfigurationError as error:
        return [failed(NAME, f"{login.setting}: {error}")]
    try:
        wrong = await state.check()
    finally:
        await state.close()
    if wrong is not None:
        return [
            failed(
                NAME,
                f"{login.setting}: {wrong} Meanwhile locks refuse, and each process has rates of "
                "its own.",
            )
        ]
    return [ok(NAME, "the server for caches, locks and rates answers.")]
