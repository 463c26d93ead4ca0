"""The metrics of a process: its instruments, and who may scrape them."""

from __future__ import annotations

from processes.connect import plain
from processes.lifecycle.build import version_of
from processes.lifecycle.configuration import configuration
from saas.settings import Settings
from temporal_tenancy import Feature
from temporal_tenancy.lifecycle import Scrape
from temporal_tenancy.metrics import metrics


def measuring(settings: Settings) -> tuple[Feature, Scrape]:
    """Returns the feature that measures this process, and what its `/metrics` answers with."""
    feature = metrics(
        noisiest=settings.metrics_tenants,
        code_version=version_of(settings),
        configuration=configuration(settings),
    )
    assert feature.exposes is not None
    return feature, Scrape(feature.exposes, plain(settings.metrics_token))
