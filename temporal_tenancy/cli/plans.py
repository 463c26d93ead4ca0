"""Shows and changes plans."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import typer

from temporal_tenancy.cli._arguments import percentage
from temporal_tenancy.cli._server_access import control_plane
from temporal_tenancy.cli.answers import Answer, lines, table
from temporal_tenancy.control_plane.plans import PlanChanges, Plans
from temporal_tenancy.core.directory import LIMIT_MAX, LIMIT_MIN, Plan
from temporal_tenancy.core.words import duration, number

NOTHING: Final = "none"
RATE_MIN: Final = 0.001
RATE_MAX: Final = 1e6
_RATE_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,50}")
_TITLES: Final = ("plan", "weight", "cap", "share", "statement", "lock", "idle", "transaction")


async def show_all() -> Answer:
    """Lists the plans, with what each says of its tenants' sessions."""
    async with control_plane() as database:
        plans = await Plans(database).list()
    rows = map(_cells, plans)
    return Answer([_document(plan) for plan in plans], table(_TITLES, rows))


async def change(
    plan: str,
    *,
    weight: float | None,
    cap: str | None,
    share: str | None,
    rates: Sequence[str],
    timeouts: dict[str, str | None],
) -> Answer:
    """Changes what is given of a plan; `timeouts` are seconds, by the plan's fields.

    Each of `rates` is a name, "=", and calls in a second.

    Raises:
        PlanUnknown: there is no such plan.
        PlanRefused: a value does not fit.
        typer.BadParameter: nothing is to change, or a value is not readable.
    """
    changes: PlanChanges = {}
    if weight is not None:
        changes["fairness_weight"] = weight
    if cap is not None:
        changes["concurrency_cap"] = _jobs(cap)
    if share is not None:
        changes["pool_share"] = None if share == NOTHING else percentage(share, option="--share")
    if (text := timeouts.get("statement_timeout")) is not None:
        changes["statement_timeout"] = _seconds(text, "--statement-timeout")
    if (text := timeouts.get("lock_timeout")) is not None:
        changes["lock_timeout"] = _seconds(text, "--lock-timeout")
    if (text := timeouts.get("idle_timeout")) is not None:
        changes["idle_timeout"] = _seconds(text, "--idle-timeout")
    if (text := timeouts.get("transaction_timeout")) is not None:
        changes["transaction_timeout"] = _seconds(text, "--transaction-timeout")
    named = dict(map(_rate, rates))
    if not changes and not named:
        raise typer.BadParameter(
            "say what to change: --weight, --cap, --share, --rate, or one of the timeouts."
        )
    async with control_plane() as database:
        changed = await Plans(database).change(plan, rates=named, **changes)
    said = f"{changed.id} is changed; processes notice within 5 s."
    if named:
        of_all = [f"{name} {rate:g}/s" for name, rate in sorted(changed.rate_limits.items())]
        said += f" Its rates: {', '.join(of_all) or 'those of each process'}."
    return Answer(_document(changed), lines(said, table(_TITLES, [_cells(changed)])))


def _jobs(text: str) -> int | None:
    if text == NOTHING:
        return None
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:10]) < 2**31:
        raise typer.BadParameter(f"it is a number of jobs, or {NOTHING}.", param_hint="--cap")
    return int(text)


def _rate(text: str) -> tuple[str, float | None]:
    name, is_given, calls = text.partition("=")
    if not is_given or not _RATE_NAME.fullmatch(name):
        raise typer.BadParameter(
            "it is a name of at most 50 letters, digits, -, _ and dots, and calls in a second, "
            'such as "http=20".',
            param_hint="--rate",
        )
    if calls == NOTHING:
        return name, None
    try:
        rate = float(calls)
    except ValueError:
        rate = math.nan
    if not RATE_MIN <= rate <= RATE_MAX:  # nor for what is no number
        raise typer.BadParameter(
            f"it is {RATE_MIN:g} to {number(int(RATE_MAX), 'call')} in a second, or {NOTHING}.",
            param_hint="--rate",
        )
    return name, rate


def _seconds(text: str, option: str) -> timedelta | None:
    if text == NOTHING:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not abs(seconds) < timedelta.max.total_seconds():  # nor for what is no number
        raise typer.BadParameter(f"it is a number of seconds, or {NOTHING}.", param_hint=option)
    limit = timedelta(seconds=seconds)
    if not LIMIT_MIN <= limit <= LIMIT_MAX:
        least, most = LIMIT_MIN.total_seconds(), LIMIT_MAX.total_seconds()
        raise typer.BadParameter(
            f"it is {least:g} to {number(int(most), 'second')}, or {NOTHING}.", param_hint=option
        )
    return limit


def _cells(plan: Plan) -> tuple[object, ...]:
    return (
        plan.id,
        f"{plan.fairness_weight:g}",
        plan.concurrency_cap,
        None if plan.pool_share is None else f"{plan.pool_share * 100:.4g} %",
        *(None if limit is None else _shown(limit) for limit in _limits(plan).values()),
    )


def _shown(limit: timedelta) -> str:
    if limit < timedelta(seconds=1):
        return f"{limit / timedelta(milliseconds=1):g} ms"
    return duration(limit)


def _limits(plan: Plan) -> dict[str, timedelta | None]:
    return {
        "statement_timeout": plan.statement_timeout,
        "lock_timeout": plan.lock_timeout,
        "idle_timeout": plan.idle_timeout,
        "transaction_timeout": plan.transaction_timeout,
    }


def _document(plan: Plan) -> dict[str, Any]:
    seconds = {
        name: None if limit is None else limit.total_seconds()
        for name, limit in _limits(plan).items()
    }
    return {
        "id": plan.id,
        "fairness_weight": plan.fairness_weight,
        "concurrency_cap": plan.concurrency_cap,
        "rate_limits": plan.rate_limits,
        "features": sorted(plan.features),
        "retention_days": plan.retention_days,
        "pool_share": plan.pool_share,
        **seconds,
    }
