"""The values of the metrics, and the bounds of their labels."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client import Metric
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)

from temporal_tenancy.core.display import printable
from temporal_tenancy.core.jobs import registry
from temporal_tenancy.metrics.catalogue import (
    ATTEMPT_SECONDS,
    ATTEMPTS,
    CATALOGUE,
    OTHER,
    RUN_SECONDS,
    RUNS,
    Instrument,
    Labels,
)

VALUES: Final = 200
"""How many values a label may have, such as queues; each further one counts as `other`."""
SERIES: Final = 5_000
"""How many combinations of labels a metric may have, but a histogram a fifth; further ones count
as `other` in each label."""

# Their job is one that this process runs. All others name the job of a row, which its tenant may
# have written: such a job has a value of its own only if this process knows it.
_RUN_HERE: Final = frozenset({ATTEMPTS, ATTEMPT_SECONDS, RUNS, RUN_SECONDS})

_Known = dict[str, set[str]]  # values, by label
Gauges = Mapping[Instrument, Mapping[Labels, float]]


class _Histogram:
    """The counts of one series, by bucket; the last one is of what exceeds every bound."""

    __slots__ = ("counts", "sum")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * (buckets + 1)
        self.sum = 0.0


class Store:
    """Values in memory, in any thread. The values of each label and the series are bounded."""

    def __init__(self, values: int = VALUES, series: int = SERIES) -> None:
        self._most = values
        self._most_series = series
        self._lock = threading.Lock()
        self._known: dict[str, set[str]] = defaultdict(set)  # by label
        self._numbers: dict[Instrument, dict[Labels, float]] = defaultdict(dict)
        self._histograms: dict[Instrument, dict[Labels, _Histogram]] = defaultdict(dict)
        self._collected: dict[str, Gauges] = {}  # by source

    def add(self, instrument: Instrument, *labels: str, value: float = 1.0) -> None:
        """Adds to a counter."""
        with self._lock:
            series = self._numbers[instrument]
            key = self._key(instrument, labels, series)
            series[key] = series.get(key, 0.0) + value

    def set(self, instrument: Instrument, *labels: str, value: float) -> None:
        """Sets a gauge."""
        with self._lock:
            series = self._numbers[instrument]
            series[self._key(instrument, labels, series)] = value

    def observe(self, instrument: Instrument, *labels: str, value: float) -> None:
        """Counts a value of a histogram."""
        with self._lock:
            series = self._histograms[instrument]
            key = self._key(instrument, labels, series)
            found = series.get(key)
            if found is None:
                found = series[key] = _Histogram(len(instrument.buckets))
            found.counts[bisect_left(instrument.buckets, value)] += 1
            found.sum += value

    def replace(self, source: str, gauges: Gauges) -> None:
        """Replaces all gauges that were collected from `source`; values of a series are summed.

        The values of their labels are bounded too, each time anew: what a source said once takes no
        place of what counts later.
        """
        known: _Known = defaultdict(set)
        with self._lock:
            bounded: dict[Instrument, dict[Labels, float]] = {}
            for instrument, series in gauges.items():
                sums = bounded[instrument] = {}
                for labels, value in series.items():
                    key = self._key(instrument, labels, sums, known)
                    sums[key] = sums.get(key, 0.0) + value
            self._collected[source] = bounded

    def families(self) -> Iterable[Metric]:
        """Returns every metric that has a value."""
        with self._lock:
            numbers = {instrument: dict(series) for instrument, series in self._numbers.items()}
            for gauges in self._collected.values():
                for instrument, series in gauges.items():
                    numbers.setdefault(instrument, {}).update(series)
            histograms = {
                instrument: {key: (list(h.counts), h.sum) for key, h in series.items()}
                for instrument, series in self._histograms.items()
            }
        found: list[Metric] = []
        for instrument in CATALOGUE:
            if instrument in numbers:
                found.append(_numbers(instrument, numbers[instrument]))
            elif instrument in histograms:
                found.append(_buckets(instrument, histograms[instrument]))
        return found

    def _key(
        self,
        instrument: Instrument,
        labels: Labels,
        series: Mapping[Labels, object],
        known: _Known | None = None,
    ) -> Labels:
        if labels in series:
            return labels
        known = self._known if known is None else known
        named = zip(instrument.labels, labels, strict=True)
        key = tuple([self._value(instrument, label, value, known) for label, value in named])
        most = self._most_series // (5 if instrument.kind == "histogram" else 1)
        return key if key in series or len(series) < most else (OTHER,) * len(key)

    def _value(self, instrument: Instrument, label: str, value: str, known: _Known) -> str:
        if label == "job":
            if value in registry:
                return value
            if instrument not in _RUN_HERE:
                return OTHER
        values = known[label]
        shown = printable(value)
        if shown not in values:
            if len(values) >= self._most:
                return OTHER
            values.add(shown)
        return shown


def described() -> Iterable[Metric]:
    """Returns every metric of the catalogue, without values, as a registry asks for them."""
    return [
        _numbers(instrument, {}) if instrument.kind != "histogram" else _buckets(instrument, {})
        for instrument in CATALOGUE
    ]


def _numbers(instrument: Instrument, series: Mapping[Labels, float]) -> Metric:
    made = CounterMetricFamily if instrument.kind == "counter" else GaugeMetricFamily
    family = made(instrument.name, instrument.meaning, labels=instrument.labels)
    for labels, value in series.items():
        family.add_metric(labels, value)
    return family


def _buckets(
    instrument: Instrument, series: Mapping[Labels, tuple[list[int], float]]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(instrument.name, instrument.meaning, labels=instrument.labels)
    for labels, (counts, total) in series.items():
        upto, buckets = 0, []
        for bound, count in zip((*map(_bound, instrument.buckets), "+Inf"), counts, strict=True):
            upto += count
            buckets.append((bound, upto))
        family.add_metric(labels, buckets, total)
    return family


def _bound(seconds: float) -> str:
    return str(float(seconds))
