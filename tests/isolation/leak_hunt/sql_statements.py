"""Statements as somebody in a hurry writes them: SQL that forgets the tenant."""

from __future__ import annotations

from datetime import date
from itertools import accumulate

from tests.isolation.leak_hunt.actions import in_order, prepared, sql
from tests.isolation.leak_hunt.expectations import (
    added,
    added_if_new,
    all_rows,
    busy_rows,
    days_with_flights,
    days_without_flights,
    emptied,
    emptied_and_told,
    flown_days,
    foreign_row,
    foreign_row_put,
    foreign_rows_touched,
    moved,
    pairs,
    put,
    put_and_told,
    raised,
    raised_and_told,
    totals,
)
from tests.isolation.leak_hunt.model import REFUSED, Rows, Step

OWN = "current_setting('app.tenant_id')"
FLOWN = "cast(time_hour at time zone 'UTC' as date)"
ROW = f"({OWN}, :day, :events, 0, 0, 0)"
FOREIGN_ROW = "(:other, :day, :events, 0, 0, 0)"

# Reading one table

sql("sql_select", "select day, events from daily_usage", all_rows)
sql(
    "sql_select_or",
    "select day, events from daily_usage where events >= :events or tenant_id <> 'none'",
    all_rows,
)
sql(
    "sql_whole_rows",
    "select (every).day, (every).events from (select daily_usage as every from daily_usage) as r",
    all_rows,
)
sql("sql_sample", "select day, events from daily_usage tablesample bernoulli (100)", all_rows)
sql("sql_select_for_update", "select day, events from daily_usage for update", all_rows)
sql("sql_aggregate", "select count(*), coalesce(sum(events), 0) from daily_usage", totals)
sql(
    "sql_ordered_aggregate",
    "select array_agg(events order by day) from daily_usage",
    lambda rows, step: [([events for _, events in sorted(rows.usage.items())] or None,)],
)
sql(
    "sql_group_by_having",
    "select events, count(*) from daily_usage group by events having count(*) > 1",
    lambda rows, step: in_order(
        (events, list(rows.usage.values()).count(events))
        for events in set(rows.usage.values())
        if list(rows.usage.values()).count(events) > 1
    ),
)
sql(
    "sql_rollup",
    "select day, coalesce(sum(events), 0) from daily_usage group by rollup (day)",
    lambda rows, step: in_order([*rows.usage.items(), (None, sum(rows.usage.values()))]),
)


def running_totals(rows: Rows, step: Step) -> object:
    days = sorted(rows.usage)
    sums = accumulate(rows.usage[day] for day in days)
    return [
        (day, place, total, len(days))
        for place, (day, total) in enumerate(zip(days, sums, strict=True), start=1)
    ]


sql(
    "sql_window",
    """
    select day, rank() over every, sum(events) over every, count(*) over ()
    from daily_usage window every as (order by day)
    """,
    running_totals,
)
sql(
    "sql_cursor",
    """
    declare hunted scroll cursor for
        select day, events from daily_usage order by tenant_id desc, day;
    move 2 in hunted;
    move backward all in hunted;
    fetch all from hunted
    """,
    all_rows,
)

# Reading several tables, without a condition on the tenant

sql("sql_cross_join", "select count(*) from daily_usage, daily_usage as other", pairs)
sql(
    "sql_self_join",
    "select one.day, other.day from daily_usage as one join daily_usage as other using (events)",
    lambda rows, step: in_order(
        (one, other)
        for one in rows.usage
        for other in rows.usage
        if rows.usage[one] == rows.usage[other]
    ),
)
sql(
    "sql_join",
    f"select day, flight from daily_usage join usage_events on {FLOWN} = day",
    flown_days,
)
sql(
    "sql_full_join",
    f"select day, flight from daily_usage full join usage_events on {FLOWN} = day",
    lambda rows, step: in_order(
        [
            *((day if day in rows.usage else None, flight) for day, flight in rows.flights),
            *((day, None) for day in rows.usage if not rows.flights_on(day)),
        ]
    ),
)
sql(
    "sql_anti_join",
    f"""
    select day from daily_usage left join usage_events on {FLOWN} = day where flight is null
    """,
    days_without_flights,
)
sql(
    "sql_lateral",
    f"""
    select day, last.flight from daily_usage
    cross join lateral (select max(flight) as flight from usage_events where {FLOWN} = day) as last
    """,
    lambda rows, step: in_order(
        (day, max(rows.flights_on(day), default=None)) for day in rows.usage
    ),
)
sql(
    "sql_exists",
    f"""
    select day from daily_usage where exists (select from usage_events where {FLOWN} = day)
    """,
    days_with_flights,
)
sql(
    "sql_not_in",
    f"select day from daily_usage where day not in (select {FLOWN} from usage_events)",
    days_without_flights,
)
sql(
    "sql_scalar_subqueries",
    "select (select count(*) from daily_usage), (select count(*) from usage_events)",
    lambda rows, step: [(len(rows.usage), len(rows.flights))],
)
sql(
    "sql_union_all",
    f"select day from daily_usage union all select {FLOWN} from usage_events",
    lambda rows, step: in_order([(day,) for day in [*rows.usage, *(f[0] for f in rows.flights)]]),
)
sql(
    "sql_intersect",
    f"select day from daily_usage intersect select {FLOWN} from usage_events",
    days_with_flights,
)
sql(
    "sql_except",
    f"select day from daily_usage except select {FLOWN} from usage_events",
    days_without_flights,
)
sql(
    "sql_cte",
    "with every as materialized (table daily_usage) select day, events from every",
    all_rows,
)
sql(
    "sql_recursive_cte",
    """
    with recursive walk (day) as (
        select min(day) from daily_usage
        union all
        select (select min(day) from daily_usage where day > walk.day) from walk
        where walk.day is not null
    )
    select day from walk where day is not null
    """,
    lambda rows, step: in_order((day,) for day in rows.usage),
)

# Adding


def added_flight(rows: Rows, step: Step) -> object:
    rows.flights.add((step.day, step.events))
    return None


def counted_flights(rows: Rows, step: Step) -> object:
    if step.day in rows.usage:
        return []
    rows.usage[step.day] = len(rows.flights)
    return [(step.day, len(rows.flights))]


def put_count(rows: Rows, step: Step) -> object:
    rows.usage[step.day] = len(rows.flights) if step.day in rows.usage else step.events
    return [(rows.usage[step.day],)]


def moved_by_upsert(rows: Rows, step: Step) -> object:
    if step.day in rows.usage and not step.own:
        return REFUSED
    return added_if_new(rows, step)


sql("sql_insert", f"insert into daily_usage values {ROW}", added, meets_others=False)
sql("sql_insert_anothers", f"insert into daily_usage values {FOREIGN_ROW}", foreign_row)
sql(
    "sql_insert_flight",
    f"""
    insert into usage_events values (
        {OWN}, cast(:day as date) + time '12:00' at time zone 'UTC', 'XX', :events, 'JFK', 'LAX',
        null, 100, null, null, false
    ) on conflict do nothing
    """,
    added_flight,
    meets_others=False,
)
sql(
    "sql_insert_select",
    f"""
    insert into daily_usage select {OWN}, :day, count(*), 0, 0, 0 from usage_events
    on conflict do nothing returning day, events
    """,
    counted_flights,
)
sql(
    "sql_insert_or_nothing",
    f"insert into daily_usage values {ROW} on conflict do nothing",
    added_if_new,
    meets_others=False,
)
sql(
    "sql_upsert",
    f"""
    insert into daily_usage values {ROW}
    on conflict (tenant_id, day) do update set events = excluded.events
    returning old.events, new.events
    """,
    put_and_told,
    meets_others=False,
    since=18,
)
sql(
    "sql_upsert_from_subquery",
    f"""
    insert into daily_usage values {ROW}
    on conflict (tenant_id, day) do update set events = (select count(*) from usage_events)
    returning events
    """,
    put_count,
)
sql(
    "sql_upsert_anothers",
    f"""
    insert into daily_usage values {FOREIGN_ROW}
    on conflict (tenant_id, day) do update set events = excluded.events
    """,
    foreign_row_put,
)
sql(
    "sql_upsert_anothers_or_nothing",
    f"insert into daily_usage values {FOREIGN_ROW} on conflict do nothing",
    lambda rows, step: added_if_new(rows, step) if step.own else REFUSED,
)
sql(
    "sql_move_by_upsert",
    f"""
    insert into daily_usage values {ROW}
    on conflict (tenant_id, day) do update set tenant_id = :other
    """,
    moved_by_upsert,
)

# Changing


def raised_where_flown(rows: Rows, step: Step) -> object:
    days = [day for day in rows.usage if (day, step.events) in rows.flights]
    rows.usage.update({day: rows.usage[day] + 1 for day in days})
    return in_order((day, rows.usage[day]) for day in days)


def counted(rows: Rows, step: Step) -> object:
    rows.usage.update({day: len(rows.flights_on(day)) for day in rows.usage})
    return all_rows(rows, step)


def raised_and_compared(rows: Rows, step: Step) -> object:
    told = in_order((day, events + 1, events) for day, events in rows.usage.items())
    rows.usage.update({day: events + 1 for day, events in rows.usage.items()})
    return told


def first_changed(rows: Rows, step: Step) -> object:
    if not rows.usage:
        return None
    rows.usage[min(rows.usage)] = step.events
    return None


def raised_in_a_savepoint(rows: Rows, step: Step) -> object:
    raised(rows, step)
    return all_rows(rows, step)


sql(
    "sql_update",
    "update daily_usage set events = events + 1 where events >= :events",
    raised,
)
sql(
    "sql_update_returning",
    """
    update daily_usage set events = events + 1 where events >= :events
    returning new.day, old.events, new.events
    """,
    raised_and_told,
    since=18,
)
sql(
    "sql_update_from",
    f"""
    update daily_usage set events = events + 1
    from usage_events where {FLOWN} = day and flight = :events
    returning day, events
    """,
    raised_where_flown,
)
sql(
    "sql_update_from_subquery",
    f"""
    update daily_usage
    set (events, cancelled) = (select count(*), 0 from usage_events where {FLOWN} = day)
    returning day, events
    """,
    counted,
)
sql(
    "sql_update_in_a_cte",
    """
    with raised as (update daily_usage set events = events + 1 returning day, events)
    select day, raised.events, daily_usage.events from raised join daily_usage using (day)
    """,
    raised_and_compared,
)
sql(
    "sql_savepoint",
    """
    savepoint hunted;
    update daily_usage set events = 7;
    rollback to savepoint hunted;
    update daily_usage set events = events + 1 where events >= :events;
    release savepoint hunted;
    select day, events from daily_usage
    """,
    raised_in_a_savepoint,
)
sql("sql_move", "update daily_usage set tenant_id = :other", moved)

# Removing


def unflown_emptied(rows: Rows, step: Step) -> object:
    gone = [day for day in rows.usage if rows.flights_on(day)]
    for day in gone:
        del rows.usage[day]
    return in_order((day,) for day in gone)


def flights_emptied(rows: Rows, step: Step) -> object:
    gone = {flight for flight in rows.flights if flight[0] not in rows.usage}
    rows.flights -= gone
    return in_order((flight,) for _, flight in gone)


def handed_over(rows: Rows, step: Step) -> object:
    """Deletes all rows and gives them to the other tenant, in one statement."""
    return REFUSED if rows.usage and not step.own else [(len(rows.usage),)]


sql("sql_delete", "delete from daily_usage where events >= :events", emptied)
sql("sql_delete_anothers", "delete from daily_usage where tenant_id = :other", foreign_rows_touched)
sql(
    "sql_delete_returning",
    "delete from daily_usage where events >= :events returning old.day, old.events",
    emptied_and_told,
    since=18,
)
sql(
    "sql_delete_using",
    f"delete from daily_usage using usage_events where {FLOWN} = day returning day",
    unflown_emptied,
)
sql(
    "sql_delete_not_exists",
    f"""
    delete from usage_events where not exists (select from daily_usage where day = {FLOWN})
    returning flight
    """,
    flights_emptied,
)
sql(
    "sql_delete_in_a_cte",
    """
    with gone as (delete from daily_usage where events >= :events returning *)
    select day, events from gone
    """,
    emptied_and_told,
)
sql(
    "sql_move_in_a_cte",
    """
    with moved as (delete from daily_usage returning *),
    there as (
        insert into daily_usage
        select :other, day, events, cancelled, distance, air_time from moved returning 1
    )
    select count(*) from there
    """,
    handed_over,
)

# Merging


def merged(rows: Rows, step: Step) -> object:
    """Sets each day to its number of flights; deletes busy days without flights."""
    told: list[tuple[str, date, int | None]] = []
    for day in {flown for flown, _ in rows.flights}:
        before = rows.usage.get(day)
        rows.usage[day] = len(rows.flights_on(day))
        told.append(("INSERT" if before is None else "UPDATE", day, before))
    for day, events in list(rows.usage.items()):
        if not rows.flights_on(day) and events >= step.events:
            del rows.usage[day]
            told.append(("DELETE", day, events))
    return in_order(told)


def merged_away(rows: Rows, step: Step) -> object:
    return REFUSED if step.day in rows.usage and not step.own else None


sql(
    "sql_merge",
    f"""
    merge into daily_usage
    using (select cast(:day as date) as day, cast(:events as int) as events) as given
        on daily_usage.day = given.day
    when matched then update set events = given.events
    when not matched then insert values ({OWN}, given.day, given.events, 0, 0, 0)
    """,
    put,
)
sql(
    "sql_merge_tables",
    f"""
    merge into daily_usage
    using (select {FLOWN} as day, count(*) as events from usage_events group by 1) as flown
        on daily_usage.day = flown.day
    when matched then update set events = flown.events
    when not matched by target then insert values ({OWN}, flown.day, flown.events, 0, 0, 0)
    when not matched by source and daily_usage.events >= :events then delete
    returning merge_action(), coalesce(new.day, old.day), old.events
    """,
    merged,
    since=18,
)
sql(
    "sql_merge_insert_anothers",
    f"""
    merge into daily_usage using (select 1) as one on false
    when not matched then insert values {FOREIGN_ROW}
    """,
    foreign_row,
)
sql(
    "sql_move_by_merge",
    """
    merge into daily_usage using (select 1) as one on day = :day
    when matched then update set tenant_id = :other
    """,
    merged_away,
)

# With plans that the server keeps: each run is for its own tenant, not the previous one's

prepared("prepared_select", "select day, events from daily_usage", all_rows)
prepared(
    "prepared_select_where",
    "select day, events from daily_usage where events >= %(events)s",
    busy_rows,
)
prepared(
    "prepared_join",
    f"select day, flight from daily_usage join usage_events on {FLOWN} = day",
    flown_days,
)
prepared(
    "prepared_update",
    """
    update daily_usage set events = events + 1 where events >= %(events)s
    returning day, events - 1, events
    """,
    raised_and_told,
)
prepared(
    "prepared_delete",
    "delete from daily_usage where events >= %(events)s returning day, events",
    emptied_and_told,
)
