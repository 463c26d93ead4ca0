"""The metrics of a process, turned on by one feature of the plugin."""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry

from temporal_tenancy.metrics.process_metrics import NOISIEST, instruments
from temporal_tenancy.sdk.features import Feature


def metrics(
    *,
    noisiest: int = NOISIEST,
    code_version: str | None = None,
    configuration: str | None = None,
    registry: CollectorRegistry = REGISTRY,
) -> Feature:
    """Returns the feature that measures this process, for the `/metrics` of its health port.

    A process measures itself once: calling this again returns the same instruments. They are in
    Prometheus' own registry unless you say otherwise, beside those of the application.

    Args:
        noisiest: how many tenants have series of their own; the others share `tenant="other"`.
        code_version: of the application, such as its image's build id; None: this library's.
        configuration: a digest of what the process was started with, by
            `temporal_tenancy.control_plane.configuration_digest`; None: it is not told.
        registry: where the instruments are.

    Raises:
        ConfigurationError: `noisiest` is negative.
    """
    return Feature(
        "metrics", exposes=instruments(noisiest, code_version, registry, configuration).text
    )
