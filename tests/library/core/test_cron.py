"""Cron lines: what each means, and which are rejected because readers disagree about them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from temporal_tenancy.core.cron import CronInvalid, read_cron
from temporal_tenancy.core.display import is_hidden
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.periods import Period
from temporal_tenancy.ticks.schedules import ScheduledJob, check_all
from tests.fixtures.cron_lines import LINES, cron_lines
from tests.fixtures.jobs import fan_out_jobs

assert fan_out_jobs.WORKFLOWS
MINUTE = timedelta(minutes=1)


def day(text: str) -> datetime:
    """Midnight on a wall clock."""
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 6 1 * *", ["2013-05-01 06:00", "2013-06-01 06:00"]),
        ("*/30 3 5 5 *", ["2013-05-05 03:00", "2013-05-05 03:30"]),
        ("50/5 0 1 5 *", ["2013-05-01 00:50", "2013-05-01 00:55"]),
        ("0 0 * jun sat", [f"2013-06-{day:02} 00:00" for day in (1, 8, 15, 22, 29)]),
        ("0 0 * 6 7", [f"2013-06-{day:02} 00:00" for day in (2, 9, 16, 23, 30)]),
        ("0 0 * 6 FRI-7", [f"2013-06-{d:02} 00:00" for d in range(1, 31) if d % 7 in (0, 1, 2)]),
        ("0\t0   10,20 5 *", ["2013-05-10 00:00", "2013-05-20 00:00"]),
    ],
)
def test_a_line_means_these_times(text: str, expected: list[str]) -> None:
    found = read_cron(text).times(day("2013-05-01"), day("2013-07-01"))
    assert [f"{moment:%Y-%m-%d %H:%M}" for moment in found] == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0 3 * * 5#1", '"5#1" for the day of the week'),  # Temporal's comment says every Friday
        ("0 3 L * *", '"L" for the day of the month'),
        ("0 3 15W * *", '"15W" for the day of the month'),
        ("0 3 ? * 1", '"?" for the day of the month'),
        ("H 3 * * *", '"H" for the minute'),
        ("0 3 1 * 1", "restricts the day of the month and the day of the week"),
        ("0 3 */2 * 1-5", "restricts the day of the month and the day of the week"),
        ("0 0 31 2 *", "never due"),
        ("0 0 30-31 feb *", "never due"),
        ("0 0 * * 5-1", '"5-1" for the day of the week, which is empty'),
        ("*/0 * * * *", '"*/0" for the minute, which is empty'),
        ("60 * * * *", '"60" for the minute, which goes from 0 to 59'),
        ("0 24 * * *", '"24" for the hour, which goes from 0 to 23'),
        ("0 0 0 * *", '"0" for the day of the month, which goes from 1 to 31'),
        ("0 0 * jann *", '"jann" for the month'),
        ("0 0 * mon *", '"mon" for the month'),
        ("@daily", "five fields"),
        ("0 6 1 * * # the first", "five fields"),
        ("CRON_TZ=Asia/Tokyo 0 6 1 * *", "five fields"),
        ("0 0 6 1 * *", "five fields"),
        ("", "five fields"),
        ("1,,2 * * * *", '"" for the minute'),
        ("٣ * * * *", "for the minute"),
        ("0 \x1b[2J * * *", r'"\x1b[2J" for the hour'),
    ],
)
def test_a_line_that_readers_disagree_about_is_refused_with_the_reason(
    text: str, reason: str
) -> None:
    with pytest.raises(CronInvalid) as refused:
        read_cron(text)
    assert reason in refused.value.message
    assert not any(map(is_hidden, refused.value.message))


@given(cron_lines(), st.datetimes(day("1999-01-01"), day("2101-01-01")))
def test_the_times_are_the_minutes_that_match(text: str, since: datetime) -> None:
    line = read_cron(text)
    until = since + timedelta(hours=30)
    first = since.replace(second=0, microsecond=0)
    minutes = (first + MINUTE * number for number in range(30 * 60 + 2))
    assert list(line.times(since, until)) == [
        moment for moment in minutes if since <= moment < until and line.matches(moment)
    ]


@given(cron_lines())
def test_the_servers_calendar_means_the_same(text: str) -> None:
    line = read_cron(text)
    calendar = line.calendar()
    assert line.is_calendar(calendar)
    assert calendar.comment == line.text


@given(st.text(max_size=30) | st.lists(st.text("0123456789*/-,#LW?@", max_size=5)).map(" ".join))
def test_any_text_is_a_line_or_refused(text: str) -> None:
    try:
        line = read_cron(text)
    except CronInvalid as refused:
        sentence = refused.message
    else:
        sentence = line.text
    assert not any(map(is_hidden, sentence))


@pytest.mark.parametrize(
    ("text", "in_a_day", "in_a_month"),
    [
        ("0 6 1 * *", False, False),
        ("0 6 * * *", False, True),
        ("0 6 1,15 * *", False, True),
        ("0 6 29,30 2 *", False, False),
        ("0 6 * * 1", False, True),
        ("0 6,18 1 * *", True, True),
        ("0 */4 * * *", True, True),
    ],
)
def test_a_line_that_fires_twice_in_a_period_is_known(
    text: str, in_a_day: bool, in_a_month: bool
) -> None:
    line = read_cron(text)
    assert line.fires_again_in(Period.DAY) is in_a_day
    assert line.fires_again_in(Period.MONTH) is in_a_month


def test_what_fires_twice_in_its_period_is_told() -> None:
    assert ScheduledJob("test.controlled_monthly", "0 6 1 * *").warning is None
    told = ScheduledJob("test.controlled_monthly", "0 6 1,15 * *").warning
    assert told is not None
    assert told.startswith(
        "test.controlled_monthly works on one month and is due more than once in it"
    )


def test_the_error_names_the_schedule() -> None:
    lines = [
        ScheduledJob("test.controlled_monthly", "0 6 1 * *"),
        ScheduledJob("test.controlled_daily", "0 3 L * *"),
    ]
    with pytest.raises(
        ConfigurationError, match=r"the schedule of test\.controlled_daily: CronInvalid"
    ):
        check_all(lines)


def test_aware_times_stay_in_their_clock() -> None:
    found = list(
        read_cron(LINES[0]).times(
            datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 3, 1, tzinfo=UTC)
        )
    )
    assert all(moment.tzinfo is UTC for moment in found)
