"""What clients request in a scenario; a seed determines everything."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.outbox import enqueue
from temporal_tenancy.postgres.database import Database, tenant_session
from temporal_tenancy.postgres.database_errors import DatabaseProblem
from tests.fixtures.postgres import within
from tests.system.faults.message_jobs import ALONE, AT_ONCE, GARBLE, REFUSE, TOGETHER

ALONE_EACH: Final = 6  # valid messages per tenant
TOGETHER_EACH: Final = 8  # and as many in one transaction
IN_ONE: Final = 4  # messages per transaction at most
AGAIN: Final = 0.15  # share of the valid ones that are requested twice
ROLLED_BACK_EACH: Final = 2  # transactions
AGAIN_AFTER: Final = 0.1  # seconds, if it is unknown whether the transaction was committed

# Bypasses enqueue(), which rejects what can never run.
_WRITE: Final = text("""
    insert into tenancy.outbox_messages (tenant_id, job, key, payload)
    values (:tenant, :job, :key, cast(:payload as jsonb))
    on conflict (tenant_id, job, key) where status <> 'dead_letter' do nothing
""")


@dataclass(frozen=True)
class Poison:
    """A message that fails permanently, and what its dead letter says."""

    job: str
    how: str  # fails in the work; empty: before that
    source: str
    error_type: str
    payload: str = ""  # JSON to write unchanged; empty: what enqueue() writes


POISON: Final = (
    Poison("no.such_job", "", "relay", "UnknownJob", '{"owner": ""}'),
    Poison(ALONE, "", "relay", "InvalidPayload", '{"owner": 7}'),
    Poison(AT_ONCE, REFUSE, "message", "NotCounted"),
    Poison(TOGETHER, "", "relay", "InvalidPayload", '{"owner": "", "tenant_id": "t00001"}'),
    Poison(ALONE, REFUSE, "workflow", "NotCounted"),
    Poison(TOGETHER, REFUSE, "message", "NotCounted"),
    Poison(ALONE, GARBLE, "workflow", "Garbled"),
    Poison(AT_ONCE, GARBLE, "message", "Garbled"),
)
_EACH: Final = ((ALONE, ALONE_EACH), (TOGETHER, TOGETHER_EACH), (AT_ONCE, TOGETHER_EACH))


@dataclass(frozen=True, order=True)
class Name:
    """The identity of a message."""

    tenant: str
    job: str
    key: str

    @property
    def workflow_id(self) -> str:
        """The id of its own workflow, and of its dead letter."""
        return f"{self.tenant}/{self.job}/{self.key}"


@dataclass(frozen=True)
class Ask:
    """A requested message."""

    name: Name
    poison: Poison | None = None


@dataclass(frozen=True)
class Transaction:
    """A client's transaction, which requests messages of one tenant."""

    tenant: str
    asks: Sequence[Ask]
    commits: bool = True


@dataclass(frozen=True)
class Plan:
    """Everything that a scenario requests, in two parts."""

    prefix: str  # of its keys, which no other scenario uses
    before: Sequence[Transaction]  # before the fault
    meanwhile: Sequence[Transaction]

    @property
    def accepted(self) -> dict[Name, Poison | None]:
        """The requests of transactions that commit."""
        every = [*self.before, *self.meanwhile]
        return {ask.name: ask.poison for one in every if one.commits for ask in one.asks}

    def of(self, tenants: Iterable[str]) -> dict[Name, Poison | None]:
        """The accepted messages of some tenants."""
        wanted = set(tenants)
        return {name: poison for name, poison in self.accepted.items() if name.tenant in wanted}


def plan(seed: int, tenants: Sequence[str]) -> Plan:
    """Tenants ask for messages of the same keys, and of three jobs by the same keys too."""
    chance = random.Random(seed)
    prefix = f"s{seed}-"
    parts: tuple[list[Transaction], list[Transaction]] = ([], [])
    for number, tenant in enumerate(tenants):
        for part in (0, 1):
            asks = [
                Ask(Name(tenant, job, f"{prefix}{part}-{key}"))
                for job, count in _EACH
                for key in range(count // 2)
            ]
            poison = POISON[(seed + 2 * number + part) % len(POISON)]
            asks += chance.sample(asks, int(AGAIN * len(asks)))
            asks.append(Ask(Name(tenant, poison.job, f"{prefix}{part}-poison"), poison))
            chance.shuffle(asks)
            parts[part].extend(_transactions(chance, tenant, asks))
        for undone in range(ROLLED_BACK_EACH):
            never = Ask(
                Name(tenant, chance.choice((ALONE, TOGETHER, AT_ONCE)), f"{prefix}never-{undone}")
            )
            parts[undone % 2].append(Transaction(tenant, [never], commits=False))
    for transactions in parts:
        chance.shuffle(transactions)
    return Plan(prefix, *parts)


def _transactions(chance: random.Random, tenant: str, asks: list[Ask]) -> list[Transaction]:
    made = []
    while asks:
        count = chance.randint(1, IN_ONE)
        made.append(Transaction(tenant, asks[:count]))
        asks = asks[count:]
    return made


async def ask(database: Database, transactions: Sequence[Transaction]) -> None:
    """Asks for all of it, a client a tenant; what may not have been committed is asked for again.

    By the same keys, and so for the same messages.
    """

    async def client(tenant: str) -> None:
        for each in transactions:
            if each.tenant == tenant:
                while not await _is_done(database, each):  # noqa: ASYNC110  # another server's
                    await asyncio.sleep(AGAIN_AFTER)

    await asyncio.gather(*map(client, sorted({each.tenant for each in transactions})))


async def _is_done(database: Database, transaction: Transaction) -> bool:
    try:
        with within(database, transaction.tenant):
            async with tenant_session() as session:
                for each in transaction.asks:
                    await _put(session, each)
                if not transaction.commits:
                    await session.rollback()
    except (DatabaseProblem, DBAPIError):
        return False  # or unknown
    return True


async def _put(session: AsyncSession, each: Ask) -> None:
    name, poison = each.name, each.poison
    if poison is not None and poison.payload:
        values = {
            "tenant": name.tenant,
            "job": name.job,
            "key": name.key,
            "payload": poison.payload,
        }
        await session.execute(_WRITE, values)
        return
    how = "" if poison is None else poison.how
    await enqueue(name.job, {"owner": name.tenant, "how": how}, key=name.key)
