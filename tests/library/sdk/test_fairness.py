"""Each server's fairness is probed once a day, by one of all processes that need it."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import func, update
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError

from dev.devstack.temporal_server import TemporalDevServer
from temporal_tenancy.control_plane.server_checks import (
    HOLDS_FOR,
    ServerCheck,
    keep_fairness,
    last_fairness,
    renew_fairness,
)
from temporal_tenancy.control_plane.tables import ServerCheckRow
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.sdk import fairness
from temporal_tenancy.sdk.fairness import FIRST, SECOND, Fairness, ProbeFailed, mean_rank

TRIES = 2 * fairness.AGREEING - 1  # at most

OFF = Fairness(share=0.9)


@pytest.fixture
async def fair(temporal: TemporalDevServer, bare_namespace: str) -> Client:
    """A client of a fair server, in the test's own namespace."""
    return await Client.connect(temporal.address, namespace=bare_namespace)


@pytest.fixture
async def unfair(unfair_temporal: TemporalDevServer) -> Client:
    return await Client.connect(unfair_temporal.address)


async def probes(client: Client) -> dict[str, WorkflowExecutionStatus | None]:
    """Returns the states of all probe runs in the namespace."""
    ids = [run.id async for run in client.list_workflows(f"WorkflowType = '{fairness.JOB}'")]
    return {one: (await client.get_workflow_handle(one).describe()).status for one in ids}


async def aged(database: Database, age: timedelta) -> None:
    """Makes the stored result this old."""
    async with database.platform_session("age what was found, in a test") as session:
        await session.execute(update(ServerCheckRow).values(checked_at=func.now() - age))


async def test_it_is_on_where_the_late_key_is_not_held_up(fair: Client) -> None:
    found = await fairness.probe(fair)
    assert found.on
    assert found.message == "a tenant's backlog does not hold up the others': fairness is on."


async def test_it_is_off_where_the_late_key_waits_for_the_backlog(unfair: Client) -> None:
    found = await fairness.probe(unfair)
    assert not found.on
    assert "matching.enableFairness=true" in found.message


async def test_each_try_leaves_one_closed_run(fair: Client) -> None:
    await fairness.probe(fair)
    states = await probes(fair)
    assert 1 <= len(states) <= TRIES
    for name, status in states.items():
        assert name.startswith("platform/fairness.probe/")
        assert status == WorkflowExecutionStatus.TERMINATED


async def test_a_probe_that_fails_half_way_leaves_nothing_open(fair: Client) -> None:
    with pytest.raises(RPCError, match="too short"):  # the server's error for such a poll
        await fairness.probe(fair, poll_timeout=timedelta(seconds=1))
    assert list((await probes(fair)).values()) == [WorkflowExecutionStatus.TERMINATED]


async def test_a_server_without_time_for_it_is_told_by_what_it_did_not_do(fair: Client) -> None:
    with pytest.raises(ProbeFailed, match=r"the server did not .* within .* s: it is busy, or"):
        await fairness.probe(fair, within=timedelta(milliseconds=1))


def test_too_few_tasks_are_no_verdict() -> None:
    with pytest.raises(ProbeFailed, match=f"only 2 of {FIRST + SECOND} tasks"):
        mean_rank([False, True])


@pytest.mark.parametrize(
    ("order", "share"),
    [
        ([True] * SECOND + [False] * FIRST, (SECOND - 1) / 2 / (FIRST + SECOND)),
        ([False] * FIRST + [True] * SECOND, (FIRST + (SECOND - 1) / 2) / (FIRST + SECOND)),
    ],
)
def test_the_share_is_the_mean_rank_of_the_late_ones(order: list[bool], share: float) -> None:
    assert mean_rank(order) == pytest.approx(share)


@pytest.mark.parametrize(
    ("shares", "decided"),
    [
        ([], None),
        ([0.2], None),
        ([0.2, 0.3], 0.3),
        ([0.9, 0.8], 0.8),
        ([0.2, 0.8], None),
        ([0.2, 0.8, 0.9], 0.9),
        ([0.8, 0.2, 0.3], 0.3),
    ],
)
def test_two_tries_that_agree_decide(shares: list[float], decided: float | None) -> None:
    found = fairness.decision([fairness.Fairness(share) for share in shares])
    assert found == (None if decided is None else fairness.Fairness(decided))


async def test_of_many_who_ask_at_once_one_tries(fair: Client, database: Database) -> None:
    askers = TRIES + 1
    found = await asyncio.gather(*(renew_fairness(fair, database) for _ in range(askers)))
    assert 1 <= len(await probes(fair)) < askers
    assert len(set(found)) == 1
    assert found[0].holds


async def test_what_was_found_lately_is_not_tried_again(fair: Client, database: Database) -> None:
    kept = await keep_fairness(database, fair.namespace, OFF)
    assert await renew_fairness(fair, database) == kept
    assert await probes(fair) == {}


async def test_after_a_day_it_is_tried_anew(fair: Client, database: Database) -> None:
    await keep_fairness(database, fair.namespace, OFF)
    await aged(database, HOLDS_FOR + timedelta(seconds=1))
    found = await renew_fairness(fair, database)
    assert found.holds
    assert await last_fairness(database, fair.namespace) == found


async def test_what_is_known_of_one_namespace_says_nothing_of_another(database: Database) -> None:
    await keep_fairness(database, "one", OFF)
    assert await last_fairness(database, "another") is None


async def test_the_warning_says_when_it_was_found_and_what_to_do(database: Database) -> None:
    found: ServerCheck = await keep_fairness(database, "one", OFF)
    sentence = found.off_sentence
    assert f"{found.checked_at:%Y-%m-%d %H:%M}" in sentence
    assert "matching.enableFairness=true" in sentence
