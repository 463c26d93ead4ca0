"""How the more common statements should change a tenant's own rows, and answer."""

from __future__ import annotations

from tests.isolation.leak_hunt.actions import in_order
from tests.isolation.leak_hunt.model import DUPLICATE, REFUSED, Rows, Step


def all_rows(rows: Rows, step: Step) -> object:
    return in_order(rows.usage.items())


def busy_rows(rows: Rows, step: Step) -> object:
    return in_order((day, events) for day, events in rows.usage.items() if events >= step.events)


def one_row(rows: Rows, step: Step) -> object:
    return rows.usage.get(step.day)


def totals(rows: Rows, step: Step) -> object:
    return [(len(rows.usage), sum(rows.usage.values()))]


def pairs(rows: Rows, step: Step) -> object:
    return [(len(rows.usage) ** 2,)]


def flown_days(rows: Rows, step: Step) -> object:
    return in_order((day, flight) for day, flight in rows.flights if day in rows.usage)


def days_with_flights(rows: Rows, step: Step) -> object:
    return in_order((day,) for day in rows.usage if rows.flights_on(day))


def days_without_flights(rows: Rows, step: Step) -> object:
    return in_order((day,) for day in rows.usage if not rows.flights_on(day))


def added(rows: Rows, step: Step) -> object:
    if step.day in rows.usage:
        return DUPLICATE
    rows.usage[step.day] = step.events
    return None


def added_if_new(rows: Rows, step: Step) -> object:
    rows.usage.setdefault(step.day, step.events)
    return None


def put(rows: Rows, step: Step) -> object:
    rows.usage[step.day] = step.events
    return None


def put_and_told(rows: Rows, step: Step) -> object:
    before = rows.usage.get(step.day)
    rows.usage[step.day] = step.events
    return [(before, step.events)]


def raised(rows: Rows, step: Step) -> object:
    rows.usage.update(
        {day: events + 1 for day, events in rows.usage.items() if events >= step.events}
    )
    return None


def raised_and_told(rows: Rows, step: Step) -> object:
    told = in_order(
        (day, events, events + 1) for day, events in rows.usage.items() if events >= step.events
    )
    raised(rows, step)
    return told


def emptied(rows: Rows, step: Step) -> object:
    for day in [day for day, events in rows.usage.items() if events >= step.events]:
        del rows.usage[day]
    return None


def emptied_and_told(rows: Rows, step: Step) -> object:
    told = busy_rows(rows, step)
    emptied(rows, step)
    return told


def foreign_row(rows: Rows, step: Step) -> object:
    return added(rows, step) if step.own else REFUSED


def foreign_row_put(rows: Rows, step: Step) -> object:
    return put(rows, step) if step.own else REFUSED


def foreign_rows_touched(rows: Rows, step: Step) -> object:
    if step.own:
        rows.usage.clear()
    return None


def moved(rows: Rows, step: Step) -> object:
    return REFUSED if rows.usage and not step.own else None
