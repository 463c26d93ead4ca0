"""Job keys: every entry point accepts the same ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from temporal_tenancy.cli.runs import _prepared
from temporal_tenancy.core.directory import Plan, Tenant, TenantStatus
from temporal_tenancy.core.errors import InvalidPayload, TenancyError
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.core.jobs import registry
from temporal_tenancy.outbox.enqueueing import _payload
from temporal_tenancy.outbox.relay.messages import Message
from temporal_tenancy.outbox.relay.starting import job_of_message

ID = UUID("01a20224-a35b-7558-99fd-e37c922de5eb")
PERIODIC = sorted(
    name
    for name, job in registry.items()
    if job.period and job.is_asked_for and job.workflow.__module__.startswith("workflows.")
)
UA = Tenant(
    id="ua",
    name="United",
    status=TenantStatus.ACTIVE,
    status_since=datetime(2013, 1, 1, tzinfo=UTC),
    plan=Plan(
        id="all", features=frozenset(job.feature for job in registry.values() if job.feature)
    ),
)


def by_command(job: str, period: str | None, key: str | None) -> str:
    """Returns the key that `starter.py run` and `enqueue` use."""
    values = {} if period is None else {"period": period}
    _, parts = _prepared(registry[job], tenant="ua", input_json=json.dumps(values), key=key)
    return parts.key


def from_code(job: str, period: str | None, key: str | None) -> str | None:
    """Returns the key that `enqueue()` uses, and with it the HTTP API."""
    if key is not None:
        WorkflowId("ua", job, key)
    wanted = registry[job]
    values = wanted.with_period({} if period is None else {"period": period}, key)
    return _payload(wanted, "ua", values, key)[1]


def by_relay(job: str, period: str | None, key: str | None) -> str:
    """Returns the key that the relay uses for a message with both."""
    period = registry[job].with_period({}, key)["period"] if period is None else period
    message = Message("ua", ID, job, period if key is None else key, json.dumps({"period": period}),
                      3, 1, None)  # fmt: skip
    job_of_message(message, UA)
    return str(message.own_id).split("/", 2)[2]


DOORS: list[Callable[[str, str | None, str | None], str | None]] = [by_command, from_code, by_relay]


def taken(job: str, period: str | None, key: str | None) -> list[str | None]:
    """Returns the key at each entry point; None if it is rejected."""
    found: list[str | None] = []
    for door in DOORS:
        try:
            found.append(door(job, period, key))
        except TenancyError:
            found.append(None)
    return found


months = st.dates().map(lambda day: day.isoformat()[:7])
keys = st.one_of(
    months,
    st.dates().map(lambda day: day.isoformat()),
    st.from_regex(r"[0-9]{3,5}-[0-9]{1,2}(-[0-9]{1,2})?", fullmatch=True),
    st.text(min_size=1, max_size=20),
)


@given(st.sampled_from(PERIODIC), st.none() | keys, st.none() | keys)
@example("billing.cycle", None, "2013-4")
@example("billing.cycle", None, "by-client")
@example("billing.cycle", "2013-04", "2013-05")
@example("billing.cycle", "2013-04", "2013-4")
def test_what_one_door_takes_as_a_key_every_door_takes(
    job: str, period: str | None, key: str | None
) -> None:
    answers = taken(job, period, key)
    assert len(set(answers)) == 1, answers
    [answer] = set(answers)
    of_job = registry[job].period
    assert of_job is not None
    given = {each for each in (period, key) if each is not None}
    if len(given) > 1 or not all(of_job.is_key(each) for each in given):
        assert answer is None
    if answer is not None:
        assert of_job.is_key(answer)
        assert given <= {answer}


@pytest.mark.parametrize("key", ["2013-4", "2013-04-01", "by-client", "2013-13", "2013-04 "])
def test_a_key_that_is_no_period_is_refused_in_a_sentence(key: str) -> None:
    with pytest.raises(InvalidPayload, match=r"the key of billing\.cycle is not a valid month: "):
        by_command("billing.cycle", None, key)


def test_a_message_that_was_given_no_key_by_an_earlier_release_still_runs() -> None:
    message = Message("ua", ID, "billing.cycle", str(ID), '{"period": "2013-04"}', 3, 1, None)
    _, job_input = job_of_message(message, UA)
    assert job_input.period == "2013-04"
