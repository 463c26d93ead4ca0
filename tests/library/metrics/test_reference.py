"""The reference page names every metric that there is, as it is."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import CollectorRegistry

from temporal_tenancy.metrics import CATALOGUE, CollectOptions
from temporal_tenancy.metrics._instruments import Instruments

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "metrics.md"
ROW = re.compile(r"^\| `(tenancy_\w+)` \| (\w+) \| (.*?) \| (.*?) \|(?: (?:`(\w+)`)? ?\|)?$", re.M)
SOURCE = re.compile(r"^\| `(\w+)` \| (\d+) s \|", re.M)


def test_the_page_has_each_metric_with_its_type_labels_and_meaning() -> None:
    described = {
        name: (kind, tuple(re.findall(r"`(\w+)`", labels)), meaning, source)
        for name, kind, labels, meaning, source in ROW.findall(PAGE.read_text())
    }
    assert described == {
        each.scraped: (each.kind, each.labels, each.meaning, each.source) for each in CATALOGUE
    }


def test_the_page_says_how_old_the_gauges_of_each_source_may_be() -> None:
    described = {name: int(every) for name, every in SOURCE.findall(PAGE.read_text())}
    options = CollectOptions()
    assert described == {
        each.source: options.interval(each.source).total_seconds()
        for each in CATALOGUE
        if each.source
    }


def test_a_registry_is_told_every_metric() -> None:
    instruments = Instruments(CollectorRegistry(), noisiest=1, version="1")
    assert [family.name for family in instruments.describe()] == [each.name for each in CATALOGUE]
