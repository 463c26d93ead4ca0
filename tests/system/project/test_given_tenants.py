"""What is given to the public functions for a tenant or a scope, and is neither."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

import pytest
from pydantic import BaseModel

import temporal_tenancy
from dev.public_names import doors
from temporal_tenancy import control_plane, core, metering, outbox, postgres, stores, testing
from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.core.errors import TenancyError
from temporal_tenancy.core.jobs import Job, job_of
from temporal_tenancy.core.scope import PlatformScope, TenantScope, enter
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.testing import InMemoryDirectory, make_tenant
from tests.fixtures.jobs.hops import Echo

# Parameters by which a function is told a tenant, several, or a scope.
NAMES: Final = ("tenant", "tenant_id", "tenant_ids", "scope", "owner")
# Those that are told something else by that name, and why.
OTHERS: Final = {
    "temporal_tenancy.cli.Application": "logins",
    "temporal_tenancy.cli.Program": "a sentence",
    "temporal_tenancy.postgres.Roles": "names of roles",
    "temporal_tenancy.deployments.Cohort.has": "a comparison in memory",
    "temporal_tenancy.deployments.Release.has": "a comparison in memory",
    "temporal_tenancy.deployments.ReleasedVersions.version_of": "a comparison in memory",
    "temporal_tenancy.StoreDirectory.store_of": "a protocol",
    "temporal_tenancy.shared_state.TenantLock": "tenant_lock() makes it, for the current tenant",
    "temporal_tenancy.stores.Placement.choose": "a comparison in memory",
    "temporal_tenancy.stores.Placement.isolation_of": "a comparison in memory",
    "temporal_tenancy.stores.PlacementPolicy.choose": "a protocol",
    "temporal_tenancy.stores.PlacementPolicy.isolation_of": "a protocol",
    "temporal_tenancy.TenantDirectory.find": "a protocol",
    "temporal_tenancy.TenantDirectory.find_many": "a protocol",
    "temporal_tenancy.testing.InMemoryDirectory.find": "a dictionary of the test",
    "temporal_tenancy.testing.InMemoryDirectory.find_many": "a dictionary of the test",
    "temporal_tenancy.testing.InMemoryDirectory.set_status": "a dictionary of the test",
    "temporal_tenancy.testing.forged": "it forges",
    "temporal_tenancy.testing.forged_headers": "it forges",
}
NOW: Final = datetime.now(UTC)
ODD: Final = {
    "None": None,
    "nothing": "",
    "a blank": " ",
    "a path": "a/b",
    "NUL": "acme\x00",
    "bytes": b"acme",
    "a number": 7,
    "truth": True,
    "a list": ["acme"],
    "a scope": TenantScope("acme"),
    "the platform": PlatformScope("a test"),
    "a type": TenantScope,
    "a record": make_tenant("acme"),
}


@dataclass(frozen=True)
class Door:
    """A public function, called with something for its tenant."""

    name: str
    call: Callable[[Database, Any], Any]
    fitting: tuple[str, ...] = ()  # which of ODD it takes
    finds: bool = False  # whether text that is no id is answered with nothing


def echo() -> Job:
    job = job_of(Echo)
    assert job is not None
    return job


def entered(scope: Any) -> None:
    with enter(scope):
        pass


def acting(database: Database, tenant: Any) -> None:
    with postgres.acting_for(tenant, database):
        pass


LONG_AGO: Final = datetime(2013, 1, 1, tzinfo=UTC)
TEXTS: Final = ("nothing", "a blank", "a path", "NUL")
QUERY: Final = "select id, name, plan_id as plan from tenancy.tenants"


def sql_directory(database: Database) -> postgres.SqlTenantDirectory:
    return postgres.SqlTenantDirectory(database, QUERY)


DOORS: Final = [
    *(
        Door(f"{package}.SqlTenantDirectory.{name}", call, finds=True)
        for package in ("temporal_tenancy", "temporal_tenancy.postgres")
        for name, call in (
            ("find", lambda database, x: sql_directory(database).find(x)),
            ("find_many", lambda database, x: sql_directory(database).find_many([x])),
        )
    ),
    Door(
        "temporal_tenancy.control_plane.Tenants.change",
        lambda database, x: control_plane.Tenants(database).change(x, name="Acme"),
    ),
    Door("temporal_tenancy.enter", lambda _, x: entered(x), ("a scope", "the platform")),
    Door("temporal_tenancy.TenantScope", lambda _, x: temporal_tenancy.TenantScope(x)),
    Door("temporal_tenancy.WorkflowId", lambda _, x: temporal_tenancy.WorkflowId(x, "a.b", "c")),
    Door("temporal_tenancy.scoped_key", lambda _, x: temporal_tenancy.scoped_key(x, "lock", "x")),
    Door("temporal_tenancy.tenant_folder", lambda _, x: temporal_tenancy.tenant_folder(x)),
    Door(
        "temporal_tenancy.CachedDirectory.find",
        lambda _, x: temporal_tenancy.CachedDirectory(InMemoryDirectory()).find(x),
        finds=True,
    ),
    Door(
        "temporal_tenancy.CachedDirectory.find_many",
        lambda _, x: temporal_tenancy.CachedDirectory(InMemoryDirectory()).find_many([x]),
        finds=True,
    ),
    Door(
        "temporal_tenancy.control_plane.ControlPlaneDirectory.find",
        lambda database, x: control_plane.ControlPlaneDirectory(database).find(x),
        finds=True,
    ),
    Door(
        "temporal_tenancy.control_plane.ControlPlaneDirectory.find_many",
        lambda database, x: control_plane.ControlPlaneDirectory(database).find_many([x]),
        finds=True,
    ),
    Door(
        "temporal_tenancy.metering.usage",
        lambda database, x: metering.usage(database, since=LONG_AGO, until=LONG_AGO, tenant=x),
        ("None",),
    ),
    Door(
        "temporal_tenancy.control_plane.Tenants.add",
        lambda database, x: control_plane.Tenants(database).add(x, "Acme", plan="standard"),
    ),
    Door(
        "temporal_tenancy.stores.SignUp.add",
        lambda database, x: stores.SignUp(database).add(x, "Acme", plan="standard"),
    ),
    Door(
        "temporal_tenancy.stores.ControlPlaneStores.store_of",
        lambda database, x: stores.ControlPlaneStores(database).store_of(x),
    ),
    Door(
        "temporal_tenancy.control_plane.Tenants.set_status",
        lambda database, x: control_plane.Tenants(database).set_status(x, TenantStatus.ACTIVE),
    ),
    Door(
        "temporal_tenancy.control_plane.Tenants.resume",
        lambda database, x: control_plane.Tenants(database).resume(x),
    ),
    Door(
        "temporal_tenancy.control_plane.Tenants.end_trial",
        lambda database, x: control_plane.Tenants(database).end_trial(
            x, plan=None, at=datetime.now(UTC)
        ),
    ),
    Door(
        "temporal_tenancy.control_plane.ApiKeys.create",
        lambda database, x: control_plane.ApiKeys(database).create(x, "a name"),
    ),
    Door(
        "temporal_tenancy.control_plane.ApiKeys.list",
        lambda database, x: control_plane.ApiKeys(database).list(x),
    ),
    Door(
        "temporal_tenancy.control_plane.ApiKeys.revoke",
        lambda database, x: control_plane.ApiKeys(database).revoke(x, uuid4()),
    ),
    Door(
        "temporal_tenancy.core.require_runnable",
        lambda _, x: core.require_runnable("acme", x, echo()),
        ("a record",),
    ),
    Door(
        "temporal_tenancy.core.require_startable",
        lambda _, x: core.require_startable("acme", x, echo()),
        ("a record",),
    ),
    Door(
        "temporal_tenancy.metering.usage",
        lambda database, x: metering.usage(database, since=NOW, until=NOW, tenant=x),
        ("None",),  # of all tenants
    ),
    Door(
        "temporal_tenancy.outbox.request_job",
        lambda _, x: outbox.request_job(x, echo(), {}),
        ("a record",),
    ),
    Door("temporal_tenancy.postgres.acting_for", acting, ("a record",)),
    Door("temporal_tenancy.testing.make_tenant", lambda _, x: testing.make_tenant(x)),
    Door(
        "temporal_tenancy.testing.acting_as",
        lambda database, x: anext(testing.acting_as(x, database)()),
        ("a record",),
    ),
    Door(
        "temporal_tenancy.testing.TenantActivityEnvironment",
        lambda _, x: testing.TenantActivityEnvironment(x),
        ("a record",),
    ),
]


def told_a_tenant() -> Iterator[str]:
    """The public functions that have a parameter for a tenant or a scope."""
    for door in doors():
        module = importlib.import_module(door)
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value) and issubclass(value, BaseModel):
                continue  # pydantic checks what it is told
            members = {name: value}
            if inspect.isclass(value):
                own = {k: v for k, v in vars(value).items() if inspect.isfunction(v)}
                members |= {f"{name}.{k}": v for k, v in own.items() if not k.startswith("_")}
            for called, function in members.items():
                if not callable(function) or isinstance(function, type(None)):
                    continue
                try:
                    parameters = inspect.signature(function).parameters
                except (TypeError, ValueError):
                    continue
                if any(parameter in NAMES for parameter in parameters):
                    yield f"{door}.{called}"


def test_every_public_function_that_is_told_a_tenant_is_here() -> None:
    known = {door.name for door in DOORS} | OTHERS.keys()
    assert set(told_a_tenant()) <= known
    assert len({door.name for door in DOORS} & set(told_a_tenant())) > 15


async def answer_of(door: Door, database: Database, value: object) -> Any:
    """What the function returns, or the library's error."""
    try:
        found = door.call(database, value)
        return await found if inspect.isawaitable(found) else found
    except TenancyError as error:
        return error


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name.removeprefix("temporal_tenancy"))
async def test_what_is_no_tenant_is_refused_in_a_sentence(database: Database, door: Door) -> None:
    for name, value in ODD.items():
        if name in door.fitting:
            continue
        answer = await answer_of(door, database, value)
        if isinstance(answer, TenancyError):
            assert answer.message.endswith("."), name
            assert answer.message.isprintable(), name
        else:
            assert door.finds, name
            assert name in TEXTS, name
            assert not answer, name


@pytest.mark.parametrize("reason", [None, 7, b"why", ["why"], "", " \n"])
def test_the_platform_says_why_in_words(reason: Any) -> None:
    with pytest.raises(TenancyError, match="needs a reason"):
        PlatformScope(reason)
