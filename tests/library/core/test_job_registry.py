"""The registry of jobs: those that load later are known to whoever asks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from temporal_tenancy.core.errors import UnknownJob
from temporal_tenancy.core.jobs import Job, JobPriority, Registry


def job(name: str) -> Job:
    return Job(
        name=name,
        kind="tenant",
        queue="q",
        priority=JobPriority.NORMAL,
        workflow=type(name, (), {}),
        execution_timeout=timedelta(1),
    )


@pytest.mark.parametrize(
    "ask",
    [
        lambda registry: registry.get("a.b") is not None,
        lambda registry: registry["a.b"].name == "a.b",
        lambda registry: registry.get_or_raise("a.b").name == "a.b",
        lambda registry: list(registry) == ["a.b"],
        lambda registry: len(registry) == 1,
        lambda registry: "a.b" in registry,
        lambda registry: [each.name for each in registry.values()] == ["a.b"],
    ],
)
def test_jobs_load_when_the_registry_is_first_read_and_once(ask: Callable[[Registry], Any]) -> None:
    registry, calls = Registry(), []

    def load() -> None:
        calls.append(len(registry))  # what is imported may read it
        registry.add(job("a.b"))

    registry.load_later(load)
    assert calls == []
    assert ask(registry)
    assert ask(registry)
    assert calls == [0]


def test_adding_a_job_loads_nothing() -> None:
    registry = Registry()
    registry.load_later(lambda: pytest.fail("it was loaded"))
    registry.add(job("a.b"))


def test_what_fails_to_load_is_tried_again_and_hides_nothing() -> None:
    registry, tries = Registry(), []

    def load() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise ImportError("a module is broken")
        registry.add(job("a.b"))

    registry.load_later(load)
    with pytest.raises(ImportError, match="a module is broken"):
        registry.get_or_raise("a.b")
    assert registry.get_or_raise("a.b").name == "a.b"
    with pytest.raises(UnknownJob):
        registry.get_or_raise("b.a")


def test_an_unknown_job_names_the_nearest_or_says_that_its_module_is_not_imported() -> None:
    registry = Registry()
    with pytest.raises(UnknownJob, match=r"This process has none\. Jobs of a module that is"):
        registry.get_or_raise("a.b")
    registry.add(job("mail.send"))
    with pytest.raises(UnknownJob, match=r"Use one of: mail\.send\. Jobs of a module that"):
        registry.get_or_raise("x.y")
    with pytest.raises(UnknownJob, match=r"'mial\.send' is not a job\. Did you mean \"mail\.send"):
        registry.get_or_raise("mial.send")
