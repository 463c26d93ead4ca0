"""Counts what the library observes, and returns it for a scrape."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from temporal_tenancy.core.errors import (
    HopRefused,
    ScopeMissing,
    StatementRefused,
    StoreMismatch,
    TenantInvalid,
    TenantMismatch,
    TenantMissing,
)
from temporal_tenancy.core.observations import (
    AttemptEnded,
    Claimed,
    ConnectionHeld,
    Observation,
    Refused,
    RunEnded,
    StartTried,
)
from temporal_tenancy.metrics import catalogue as of
from temporal_tenancy.metrics._noisiest import Noisiest
from temporal_tenancy.metrics._store import Store, described
from temporal_tenancy.metrics.catalogue import Instrument
from temporal_tenancy.postgres.database import databases
from temporal_tenancy.sdk import core_metrics

_WORKER: Final = "worker"
_DATABASE: Final = "database"
_OUTCOMES: Final = ("succeeded", "failed", "cancelled", "deferred")
_PLATFORM: Final = "platform"
# What an activity's own code can be refused, by the session or by a client inside it.
_REFUSED: Final = frozenset(
    error.__name__
    for error in (
        HopRefused,
        ScopeMissing,
        StatementRefused,
        StoreMismatch,
        TenantInvalid,
        TenantMismatch,
        TenantMissing,
    )
)


class Instruments(Collector):
    """The metrics of this process, as a collector of a registry."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        noisiest: int,
        version: str,
        configuration: str | None = None,
        store: Store | None = None,
    ) -> None:
        self.registry = registry
        self.store = store or Store()
        self.noisiest = Noisiest(noisiest)
        self._scraping = threading.Lock()
        self.use_version(version)
        self.store.set(of.CONFIGURED, configuration or "", value=time.time())
        for kind in sorted(_REFUSED):  # from zero on, so that the first one is an increase
            for where in ("workflow", "activity", "message", "client"):
                self.store.add(of.REFUSALS, kind, where, value=0)
        registry.register(self)

    def use_version(self, version: str) -> None:
        """Says that the process runs this version of the code, and no other."""
        self.version = version
        self.store.replace("version", {of.PROCESS: {(version,): 1}})

    def observe(self, observation: Observation) -> None:
        """Counts an observation."""
        match observation:
            case AttemptEnded():
                self._attempt(observation)
            case RunEnded(job=job, queue=queue, outcome=outcome, seconds=seconds):
                self.store.add(of.RUNS, job, queue, outcome)
                self.store.observe(of.RUN_SECONDS, job, queue, value=seconds)
            case Refused(error_type=kind, where=where):
                self.store.add(of.REFUSALS, kind, where)
            case ConnectionHeld(pool=pool, tenant_id=tenant, seconds=seconds):
                self.store.observe(of.HELD_SECONDS, pool, value=seconds)
                if tenant is not None:
                    self.noisiest.add(tenant, _DATABASE, seconds)
            case Claimed(messages=messages, seconds=seconds):
                self.store.observe(of.CLAIM_SECONDS, value=seconds)
                self.store.add(of.CLAIMED, value=messages)
            case StartTried(job=job, outcome=outcome, lag=lag):
                self.store.add(of.STARTS, job, outcome)
                if lag is not None:
                    self.store.observe(of.LAG_SECONDS, value=max(lag, 0.0))

    def _attempt(self, ended: AttemptEnded) -> None:
        work = ended.work
        plan = work.plan or _PLATFORM
        self.store.add(of.ATTEMPTS, work.job, work.queue, plan, ended.outcome)
        self.store.observe(of.ATTEMPT_SECONDS, work.job, work.queue, value=ended.seconds)
        if ended.error_type in _REFUSED:
            self.store.add(of.REFUSALS, ended.error_type or "", "activity")
        if work.tenant_id is not None:
            self.noisiest.add(work.tenant_id, _WORKER, ended.seconds)
            self.noisiest.add(work.tenant_id, ended.outcome, 1, weighs=False)

    def describe(self) -> Iterable[Metric]:
        """Returns the metrics without their values; a registry asks, to compare names."""
        return described()

    def collect(self) -> Iterable[Metric]:
        """Returns the metrics with their values."""
        self._set_pools()
        yield from self.store.families()
        yield from self._by_tenant()

    def text(self) -> bytes:
        """Returns this registry's metrics and the SDK's, in Prometheus' text format.

        Asks no server, but reads what was collected from them.
        """
        with self._scraping:  # one at a time: each takes the interpreter for some milliseconds
            return generate_latest(self.registry) + core_metrics.text()

    def _set_pools(self) -> None:
        sums: dict[tuple[str, ...], float] = {}
        for database in databases():
            for pool, use in database.pools().items():
                for state, count in (
                    ("size", use.size),
                    ("in_use", use.in_use),
                    ("waiting", use.waiting),
                    ("open", use.open),
                ):
                    sums[pool, state] = sums.get((pool, state), 0) + count
        self.store.replace("pools", {of.CONNECTIONS: sums})

    def _by_tenant(self) -> Iterable[Metric]:
        families = {
            instrument: CounterMetricFamily(
                instrument.name, instrument.meaning, labels=instrument.labels
            )
            for instrument in (of.WORKER_SECONDS, of.DATABASE_SECONDS, of.TENANT_ATTEMPTS)
        }

        def add(instrument: Instrument, labels: tuple[str, ...], value: float | None) -> None:
            if value is not None:
                families[instrument].add_metric(labels, value)

        for tenant, sums in self.noisiest.sums().items():
            add(of.WORKER_SECONDS, (tenant,), sums.get(_WORKER))
            add(of.DATABASE_SECONDS, (tenant,), sums.get(_DATABASE))
            for outcome in _OUTCOMES:
                add(of.TENANT_ATTEMPTS, (tenant, outcome), sums.get(outcome))
        return [family for family in families.values() if family.samples]
