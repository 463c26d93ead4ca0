"""However many tenants and names there are, a process has only so many series."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from temporal_tenancy import ConfigurationError
from temporal_tenancy.core.observations import (
    AttemptEnded,
    ConnectionHeld,
    Observation,
    Refused,
    RunEnded,
    StartTried,
    Work,
)
from temporal_tenancy.metrics import CATALOGUE, metrics
from temporal_tenancy.metrics._instruments import Instruments
from temporal_tenancy.metrics._noisiest import Noisiest
from temporal_tenancy.metrics._store import Store
from temporal_tenancy.metrics.catalogue import (
    ATTEMPT_SECONDS,
    ATTEMPTS,
    OTHER,
    STARTS,
    TICKS_MISSED,
    VERSIONS,
)
from tests.fixtures.jobs import relay_jobs

NOISIEST = 20
FLOOD = 10_000  # tenants
assert relay_jobs.WORKFLOWS  # which register `test.note`


@dataclass
class Clock:
    now: float = 0.0  # seconds

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def instruments() -> Instruments:
    return Instruments(CollectorRegistry(), noisiest=NOISIEST, version="1")


def series_of(instruments: Instruments) -> list[str]:
    text = instruments.text().decode()
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def attempt(tenant: str, *, job: str = "test.job", seconds: float = 1.0) -> AttemptEnded:
    return AttemptEnded(Work(tenant, "standard", job, "bulk"), "succeeded", seconds, None)


def test_a_flood_of_tenants_adds_the_noisiest_and_one_for_the_rest(
    instruments: Instruments,
) -> None:
    instruments.observe(attempt("t0"))
    instruments.observe(ConnectionHeld("tenant", "t0", "test.job", 0.5))
    with_one = len(series_of(instruments))
    for number in range(FLOOD):
        instruments.observe(attempt(f"t{number}"))
        instruments.observe(ConnectionHeld("tenant", f"t{number}", "test.job", 0.5))
    of_tenants = [line for line in series_of(instruments) if "tenant=" in line]
    assert len(of_tenants) == 3 * (NOISIEST + 1)
    assert len(series_of(instruments)) == with_one + 3 * NOISIEST
    worker = [line for line in of_tenants if line.startswith("tenancy_tenant_worker_seconds")]
    assert sum(float(line.rsplit(" ", 1)[1]) for line in worker) == FLOOD + 1


@given(
    st.lists(
        st.one_of(
            st.builds(
                AttemptEnded,
                st.builds(Work, st.text(), st.text(), st.text(), st.text()),
                st.sampled_from(["succeeded", "failed", "cancelled"]),
                st.floats(0, 1e6),
                st.none() | st.text(),
            ),
            st.builds(RunEnded, st.text(), st.text(), st.text(), st.just("failed"), st.just(1.0)),
            st.builds(Refused, st.text(), st.just("client")),
            st.builds(StartTried, st.text(), st.just("dead"), st.none() | st.floats(-5, 5)),
        ),
        max_size=60,
    )
)
def test_no_names_make_more_series_than_there_are_places_or_break_the_text(
    observations: list[Observation],
) -> None:
    instruments = Instruments(CollectorRegistry(), noisiest=2, version="1")
    instruments.store._most = 3
    for observation in observations:
        instruments.observe(observation)
    lines = series_of(instruments)
    jobs = {line.split('job="')[1].split('",')[0] for line in lines if "{job=" in line}
    assert len(jobs) <= 4
    assert len({line for line in lines if line.startswith("tenancy_tenant_worker")}) <= 3


def test_what_exceeds_a_labels_values_counts_as_other() -> None:
    store = Store(values=2)
    for job in ("a", "b", "c", "d", "a"):
        store.add(ATTEMPTS, job, "bulk", "free", "failed")
    [family] = store.families()
    counts = {sample.labels["job"]: sample.value for sample in family.samples}
    assert counts == {"a": 2, "b": 1, OTHER: 2}


def test_a_tenant_becomes_one_of_the_noisiest_and_the_quiet_one_makes_room() -> None:
    clock = Clock()
    noisiest = Noisiest(1, every=60, clock=clock)
    noisiest.add("quiet", "worker", 1)
    noisiest.add("loud", "worker", 50)
    assert set(noisiest.sums()) == {"quiet", OTHER}
    clock.now = 61
    noisiest.add("loud", "worker", 5)
    assert noisiest.sums() == {"loud": {"worker": 5}, OTHER: {"worker": 50}}


def test_two_tenants_that_are_as_noisy_do_not_take_turns() -> None:
    clock = Clock()
    noisiest = Noisiest(1, every=60, clock=clock)
    for turn in range(6):
        clock.now = 61.0 * turn
        for tenant in ("first", "second"):
            noisiest.add(tenant, "worker", 10 if tenant == "first" else 15)
    assert set(noisiest.sums()) == {"first", OTHER}


def test_the_sum_over_tenants_never_falls_between_elections() -> None:
    noisiest = Noisiest(3)
    total = 0.0
    for number in range(500):
        noisiest.add(f"t{number % 7}", "worker", 2)
        total += 2
        assert sum(sums["worker"] for sums in noisiest.sums().values()) == total


def test_a_tenant_called_other_is_one_of_the_others() -> None:
    noisiest = Noisiest(5, every=0)
    for tenant in ("other", "acme", "other"):
        noisiest.add(tenant, "worker", 1)
    assert noisiest.sums() == {"acme": {"worker": 1}, OTHER: {"worker": 2}}


def test_without_any_noisiest_no_tenant_is_named() -> None:
    noisiest = Noisiest(0)
    noisiest.add("acme", "worker", 1)
    assert noisiest.sums() == {OTHER: {"worker": 1}}


def test_a_negative_number_of_tenants_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="0 or more"):
        metrics(noisiest=-1, registry=CollectorRegistry())


def test_a_process_is_measured_once_however_often_the_plugin_is_made() -> None:
    registry = CollectorRegistry()
    first, second = metrics(registry=registry), metrics(registry=registry)
    assert first.exposes == second.exposes


def test_no_label_is_a_tenant_but_where_the_noisiest_are() -> None:
    with_tenants = {each.name for each in CATALOGUE if "tenant" in each.labels}
    assert with_tenants == {
        "tenancy_tenant_worker_seconds",
        "tenancy_tenant_database_seconds",
        "tenancy_tenant_attempts",
    }


def values_of(store: Store, name: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(sample.labels.values()): sample.value
        for family in store.families()
        if family.name == name
        for sample in family.samples
    }


def test_a_job_that_a_row_names_has_a_series_only_if_this_process_knows_it() -> None:
    store = Store(values=3)
    for number in range(9):
        store.add(STARTS, f"no.job{number}\x1b[31m", "dead")
    store.add(STARTS, "test.note", "started")
    store.replace("ledger", {TICKS_MISSED: {("test.note",): 3.0, ("no.job",): 1.0}})
    assert values_of(store, STARTS.name) == {(OTHER, "dead"): 9, ("test.note", "started"): 1}
    assert values_of(store, TICKS_MISSED.name) == {("test.note",): 3, (OTHER,): 1}


def test_what_a_source_said_once_takes_no_place_of_what_is_counted() -> None:
    store = Store(values=3)
    for turn in range(5):
        of_turn: dict[tuple[str, ...], float] = {(f"q{turn}-{number}",): 1.0 for number in range(3)}
        store.replace("temporal", {VERSIONS: of_turn})
        assert set(values_of(store, VERSIONS.name)) == set(of_turn)
    store.add(ATTEMPTS, "test.note", "bulk", "free", "failed")
    assert set(values_of(store, ATTEMPTS.name)) == {("test.note", "bulk", "free", "failed")}


def test_a_label_that_is_full_leaves_the_other_labels_alone() -> None:
    store = Store(values=2)
    for number in range(4):
        store.add(ATTEMPTS, "test.note", f"q{number}", f"p{number % 2}", "failed")
    store.add(ATTEMPTS, "test.note", "q9", "p1", "cancelled")
    assert ("test.note", OTHER, "p1", "cancelled") in values_of(store, ATTEMPTS.name)


def test_all_combinations_of_labels_are_bounded_too() -> None:
    store = Store(values=20, series=50)
    for job, queue in product(range(20), range(20)):
        store.add(ATTEMPTS, f"j{job}", f"q{queue}", "p", "failed")
        store.observe(ATTEMPT_SECONDS, f"j{job}", f"q{queue}", value=1)
    counts = values_of(store, ATTEMPTS.name)
    assert len(counts) == 51
    assert sum(counts.values()) == 400
    assert counts[(OTHER,) * 4] == 350
    histogram = {key[:2] for key in values_of(store, ATTEMPT_SECONDS.name)}
    assert len(histogram) == 11


def test_no_control_character_reaches_a_label() -> None:
    store = Store()
    store.add(ATTEMPTS, "test.note", "q\x1b[31m", "p\u202e", "failed")
    assert set(values_of(store, ATTEMPTS.name)) == {
        ("test.note", "q\\x1b[31m", "p\\u202e", "failed")
    }
