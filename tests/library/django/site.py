"""A Django site of the tests: its settings, a model, views and a command."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import django
from asgiref.sync import sync_to_async
from django.conf import settings

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["testserver"],
        DATABASES={},  # each test's own
        MIDDLEWARE=["temporal_tenancy.django.TenantMiddleware"],
        ROOT_URLCONF=__name__,
        SECRET_KEY="for tests",
        TENANCY_TENANT_OF=f"{__name__}.tenant_of",
        USE_TZ=True,
    )
    django.setup()

from django.db import connection, models, transaction
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path

from temporal_tenancy.core.directory import Plan, Tenant, TenantStatus
from temporal_tenancy.core.scope import current_tenant
from temporal_tenancy.core.stores import Isolation
from temporal_tenancy.django import TenantCommand, tenant_atomic


class Effect(models.Model):
    """A row of the tests' table `effects`."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    tenant_id = models.TextField(default=current_tenant)
    subject = models.TextField(default="a")
    note = models.TextField(default="b")

    class Meta:
        app_label = "tests"
        db_table = "effects"
        managed = False


def tenant_of(request: Any) -> str | None:
    """Returns the tenant that the request names."""
    tenant: str | None = request.headers.get("Tenant")
    return tenant


async def tenant_of_later(request: Any) -> str | None:
    """As `tenant_of`, for a lookup that waits."""
    return tenant_of(request)


def tenant_with_record(request: Any) -> Tenant:
    """As `tenant_of`, with the directory's record: globex has a database of its own."""
    return Tenant(
        id=request.headers["Tenant"],
        name="a tenant",
        status=TenantStatus.ACTIVE,
        plan=Plan(id="basic"),
        isolation=(
            Isolation.DATABASE if request.headers["Tenant"] == "globex" else Isolation.SHARED
        ),
        store="store7",
    )


@tenant_atomic()
def add() -> list[str]:
    """Adds a row; returns the tenants of all rows that it sees."""
    Effect.objects.create()
    return sorted(Effect.objects.values_list("tenant_id", flat=True))


def view(request: Any) -> Any:
    return HttpResponse(",".join(add()))


def view_in_atomic(request: Any) -> Any:
    with transaction.atomic():
        return HttpResponse(",".join(add()))


async def view_async(request: Any) -> Any:
    return HttpResponse(",".join(await sync_to_async(add)()))


def view_failing(request: Any) -> Any:
    with tenant_atomic():
        Effect.objects.create()
        raise RuntimeError("after the write")


def view_streaming(request: Any) -> Any:
    def rows() -> Iterator[str]:
        yield from add()

    return StreamingHttpResponse(rows())


urlpatterns = [
    path("add", view),
    path("in-atomic", view_in_atomic),
    path("async", view_async),
    path("failing", view_failing),
    path("streaming", view_streaming),
]


class AddEffect(TenantCommand):
    """A command that adds a row."""

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("--times", type=int, default=1)

    def handle(self, *args: Any, times: int, **options: Any) -> None:
        for _ in range(times):
            self.stdout.write(",".join(add()))


def setting() -> str:
    """The tenant that is set on the connection."""
    with connection.cursor() as cursor:
        cursor.execute("select coalesce(current_setting('app.tenant_id', true), '')")
        return str(cursor.fetchone()[0])
