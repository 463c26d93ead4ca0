"""`/metrics` on the health port of a process: who may scrape it, and what never holds it up."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from threading import Thread

import httpx
import pytest
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from temporal_tenancy.core.observations import Claimed, add_observer, observe, remove_observer
from temporal_tenancy.lifecycle import Health, PortInUse, Scrape, serving
from temporal_tenancy.metrics import metrics
from temporal_tenancy.metrics.process_metrics import instruments
from temporal_tenancy.sdk.features import Feature, exposition

TOKEN = "a-token-of-the-test"


class BrokenCollector(Collector):
    """A collector of an application's that fails."""

    def collect(self) -> list[Metric]:
        raise RuntimeError("it fails")


@asynccontextmanager
async def scraping(scrape: Scrape | None) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serving(Health(), host="127.0.0.1", port=0, scrape=scrape) as address,
        httpx.AsyncClient(base_url=address) as http,
    ):
        yield http


def exposed(registry: CollectorRegistry, token: str | None = None) -> Scrape:
    text = exposition([metrics(registry=registry)])
    assert text is not None
    return Scrape(text, token)


async def test_a_scrape_has_what_the_process_has_done() -> None:
    registry = CollectorRegistry()
    async with scraping(exposed(registry)) as http:
        observe(Claimed(3, 0.5))
        answer = await http.get("/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    samples = {
        sample.name: sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert samples["tenancy_relay_claimed_messages_total"] == 3
    assert samples["tenancy_relay_claim_seconds_sum"] == 0.5


async def test_a_process_without_metrics_has_no_such_door() -> None:
    async with scraping(None) as http:
        assert (await http.get("/metrics")).status_code == 404
        assert (await http.get("/healthz")).status_code == 200


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, "Bearer é"]
)
async def test_a_scrape_without_the_right_is_refused(header: str | None) -> None:
    async with scraping(exposed(CollectorRegistry(), TOKEN)) as http:
        headers = {} if header is None else {b"Authorization": header.encode()}
        answer = await http.get("/metrics", headers=headers)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert TOKEN not in answer.text
        assert "tenancy_" not in answer.text
        allowed = await http.get("/metrics", headers={"Authorization": f"bearer {TOKEN}"})
        assert allowed.status_code == 200
        assert (await http.get("/healthz")).status_code == 200


async def test_the_metrics_of_a_process_that_hangs_can_be_scraped() -> None:
    async with scraping(exposed(CollectorRegistry())) as http:
        url = str(http.base_url.join("/metrics"))
        answers: list[int] = []
        thread = Thread(target=lambda: answers.append(httpx.get(url).status_code))
        thread.start()
        thread.join(30)  # the loop hangs meanwhile
        assert answers == [200]


async def test_many_scrapes_cost_as_much_as_one() -> None:
    read: list[int] = []

    def text() -> bytes:
        read.append(1)
        return b"x 1\n"

    async with scraping(Scrape(text, shared_for=600)) as http:
        answers = await asyncio.gather(*(http.get("/metrics") for _ in range(20)))
    assert [answer.text for answer in answers] == ["x 1\n"] * 20
    assert len(read) == 1
    async with scraping(Scrape(text, shared_for=0)) as http:
        for _ in range(3):
            await http.get("/metrics")
    assert len(read) == 4


async def test_a_broken_collector_of_the_application_is_one_sentence() -> None:
    registry = CollectorRegistry()
    registry.register(BrokenCollector())
    async with scraping(exposed(registry)) as http:
        answer = await http.get("/metrics")
    assert answer.status_code == 500
    assert answer.json()["reasons"] == ["the metrics cannot be read; the log says why"]


async def test_a_port_that_is_taken_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=f"port {port} on 127.0.0.1 is in use"):
            async with serving(Health(), host="127.0.0.1", port=port):
                pass


def test_of_several_features_one_exposes_the_metrics() -> None:
    feature = metrics(registry=CollectorRegistry())
    assert exposition([Feature("other"), feature]) is feature.exposes
    assert exposition([Feature("other")]) is None


def test_an_observer_that_fails_changes_nothing_for_the_observed() -> None:
    seen = instruments(registry=CollectorRegistry())

    def fails(observation: object) -> None:
        raise RuntimeError("it fails")

    add_observer(fails)
    try:
        observe(Claimed(1, 0.1))
    finally:
        remove_observer(fails)
    assert b"tenancy_relay_claimed_messages_total" in seen.text()
