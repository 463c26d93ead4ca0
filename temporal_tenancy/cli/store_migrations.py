"""Shows what `migrate` would do, and how far the stores have been migrated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from rich.console import RenderableType

from temporal_tenancy.cli._fleet import OWN_URL, Fleet
from temporal_tenancy.cli._not_reachable import SettingMissing
from temporal_tenancy.cli._server_access import environments
from temporal_tenancy.cli.answers import Answer, lines, number, table
from temporal_tenancy.cli.program import Application, Login, current_application
from temporal_tenancy.core.stores import SHARED_STORE
from temporal_tenancy.postgres.migrations import pending
from temporal_tenancy.stores.given import versions_of_given
from temporal_tenancy.stores.waves import CANARIES, StoreMigration, Waves, wave_name

SHOWN: Final = 3  # names of stores in a line


async def plan(waves: Waves) -> Answer:
    """Shows what a migration would do, wave by wave, and changes nothing.

    Raises:
        NotReachable: the owner's URL is not set, or its server does not answer.
        TenantUnknown, StoreRefused, WaveRefused: as for `migrate`.
    """
    application = current_application()
    url = _url(application, application.owner)
    with application.reaching():
        behind = pending(url, environments(application), installation=application.installation)
        stores = Fleet(application, url, application.installation, waves).stores()
    todo = [store for store in stores if store.is_behind and not store.given]
    given = [store for store in stores if store.given]
    document = {
        "behind": list(map(str, behind)),
        "waves": [
            {"wave": wave_name(wave), "stores": list(map(_document, of_wave))}
            for wave, of_wave in _by_wave(todo)
        ],
        "up_to_date": len([store for store in stores if store.state == "up to date"]),
        "given": list(map(_document, given)),
    }
    return Answer(document, lines(_planned(stores, list(map(str, behind))), "Nothing was changed."))


def _planned(stores: Sequence[StoreMigration], behind: Sequence[str]) -> RenderableType:
    """Returns the waves; `behind` is what the control plane's database lacks."""
    todo = [store for store in stores if store.is_behind and not store.given]
    rows = [
        (wave_name(wave), len(of_wave), _names(of_wave), _steps(of_wave))
        for wave, of_wave in _by_wave(todo)
    ]
    first = f"First: {'; '.join(behind)}." if behind else None
    if behind and any(store.wave == CANARIES for store in todo):
        first = (
            f"{'; '.join(behind)}: the library's tables come first, and the others of the "
            f"{SHARED_STORE} store after the canaries."
        )
    empty = "No store lacks a migration." if stores else "All tenants share one store."
    return lines(
        first,
        table(("wave", "stores", "which", "what they lack"), rows, empty=empty),
        *_told_given(stores),
    )


async def status() -> Answer:
    """Shows how far each wave is, and which stores are behind, with why; changes nothing.

    Raises `NotReachable` if no URL is set that is needed, or its server does not answer.
    """
    application = current_application()
    needed = application.platform if application.platform.url else application.owner
    url = _url(application, needed)
    with application.reaching():
        behind = pending(url, environments(application), installation=application.installation)
        stores = Fleet(application, url, application.installation, Waves()).stores()
        asked = await versions_of_given(
            [store.name for store in stores if store.given],
            application.environments,
            application.connections,
            installation=application.installation,
        )
    unknown = {name: answer for name, answer in asked.items() if isinstance(answer, str)}
    counts = [(wave, _counts(of_wave)) for wave, of_wave in _by_wave(stores)]
    others = [store for store in stores if store.state != "up to date"]
    document = {
        "behind": list(map(str, behind)),
        "waves": [{"wave": wave_name(wave), **count} for wave, count in counts],
        "stores": [_document(store, unknown.get(store.name)) for store in others],
        "up_to_date": len(stores) - len(others),
    }
    return Answer(document, _reached(stores, list(map(str, behind)), unknown))


def _reached(
    stores: Sequence[StoreMigration], behind: Sequence[str], unknown: Mapping[str, str]
) -> RenderableType:
    """Returns how far the waves are; `unknown` has why a database does not answer, by store."""
    counts = [(wave, _counts(of_wave)) for wave, of_wave in _by_wave(stores)]
    waves = [(wave_name(wave), *count.values()) for wave, count in counts]
    others = [store for store in stores if store.state != "up to date"]
    rows = [
        (
            store.name,
            _wave(store),
            store.state,
            ", ".join(store.tenants),
            store.failure or unknown.get(store.name) or "; ".join(store.lacks),
        )
        for store in others
    ]
    return lines(
        f"{'; '.join(behind)}." if behind else None,
        table(("wave", "stores", "up to date", "behind", "failed"), waves) if waves else None,
        table(("store", "wave", "state", "tenants", "why"), rows) if rows else None,
        *_told_given(others),
        f"Up to date: {number(len(stores) - len(others), 'store')}.",
    )


def _url(application: Application, login: Login) -> str:
    if login.url is None:
        sentence = f"{login.setting} is not set. {login.how or application.how_to_start}"
        raise SettingMissing(sentence.rstrip())
    return login.url


def _by_wave(stores: Sequence[StoreMigration]) -> list[tuple[int, list[StoreMigration]]]:
    """Returns the waves in their order, each with its stores."""
    numbered = [(store.wave, store) for store in stores if store.wave is not None]
    numbered.sort(key=lambda each: (each[0], each[1].name))
    grouped = groupby(numbered, key=lambda each: each[0])
    return [(wave, [store for _, store in of_wave]) for wave, of_wave in grouped]


def _counts(stores: Sequence[StoreMigration]) -> dict[str, int]:
    states = [store.state for store in stores]
    return {
        "stores": len(states),
        "up_to_date": states.count("up to date"),
        "behind": states.count("behind"),
        "failed": states.count("failed"),
    }


def _names(stores: Sequence[StoreMigration]) -> str:
    more = f" and {len(stores) - SHOWN:,} more" if len(stores) > SHOWN else ""
    return ", ".join(store.name for store in stores[:SHOWN]) + more


def _steps(stores: Sequence[StoreMigration]) -> str:
    return "; ".join(sorted({step for store in stores for step in store.lacks}))


def _told_given(stores: Sequence[StoreMigration]) -> list[RenderableType]:
    """Returns a line for each given database that is not up to date, which needs its own URL."""
    return [
        f"{store.name} is {store.state}, in a database that this does not reach. {OWN_URL}"
        for store in stores
        if store.given and store.state != "up to date"
    ]


def _wave(store: StoreMigration) -> str:
    return "" if store.wave is None else wave_name(store.wave)


def _document(store: StoreMigration, unknown: str | None = None) -> dict[str, Any]:
    return {
        "store": store.name,
        "isolation": store.isolation,
        "wave": _wave(store) or None,
        "state": store.state,
        "tenants": list(store.tenants),
        "lacks": list(store.lacks),
        "reason": store.failure or unknown,
        "given": store.given,
    }
