"""The metrics of a process, turned on by one feature of the plugin."""

from __future__ import annotations

import threading
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry

from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.observations import add_observer
from temporal_tenancy.metrics._instruments import Instruments
from temporal_tenancy.sdk.features import Feature

NOISIEST: Final = 20  # tenants with series of their own

_made: Final[dict[CollectorRegistry, Instruments]] = {}
_making: Final = threading.Lock()


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


def instruments(
    noisiest: int = NOISIEST,
    code_version: str | None = None,
    registry: CollectorRegistry = REGISTRY,
    configuration: str | None = None,
) -> Instruments:
    """Returns the instruments of a registry; see `metrics()`."""
    if noisiest < 0:
        raise ConfigurationError("noisiest is a number of tenants: 0 or more.")
    with _making:
        found = _made.get(registry)
        if found is None:
            named = code_version or _own_version()
            found = _made[registry] = Instruments(
                registry, noisiest=noisiest, version=named, configuration=configuration
            )
            add_observer(found.observe)
        return found


def process_instruments() -> Instruments:
    """Returns the instruments that `metrics()` made last; makes them if there are none."""
    return list(_made.values())[-1] if _made else instruments()


def process_version(build_id: str | None = None) -> str:
    """Returns the version of the code that this process's metrics say.

    `build_id` is that of its workers, where an operator gives one: the metrics then say the same.
    """
    found = process_instruments()
    if build_id is not None:
        found.use_version(build_id)
    return found.version


def _own_version() -> str:
    try:
        return version("temporal-tenancy")
    except PackageNotFoundError:  # run from its source tree
        return "unknown"
