"""Tracebacks with locals show no password of a URL."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from alembic.config import Config

from temporal_tenancy.lint import check_database
from temporal_tenancy.outbox.probe.messages import ProbeMessages
from temporal_tenancy.outbox.relay._listening import listen
from temporal_tenancy.outbox.relay.connections import relay_database
from temporal_tenancy.postgres.branch import configure_branch
from temporal_tenancy.postgres.connections import answers, connect
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.database_urls import database_url
from temporal_tenancy.postgres.installation import Installation
from temporal_tenancy.postgres.migrations import migrate, pending, refuse_pending
from temporal_tenancy.postgres.moving import drop_views, move
from temporal_tenancy.postgres.roles import password_of
from temporal_tenancy.postgres.secret_texts import Secret, hidden
from temporal_tenancy.testing import assert_no_leaks, check_leaks

PASSWORD = "hunter" + "2" * 80


def opened(url: str) -> None:
    with connect(url):
        pass


CALLS: dict[str, Callable[[str], Any]] = {
    "Database": lambda url: Database(tenant_url=url),
    "Database, platform": lambda url: Database(platform_url=url),
    "database_url": database_url,
    "connect": opened,
    "answers": answers,
    "migrate": migrate,
    "migrate, tenant": lambda url: migrate("postgresql://o@127.0.0.1:1/x", tenant_url=url),
    "pending": lambda url: pending(url, []),
    "refuse_pending": lambda url: refuse_pending(url, []),
    "check_database": check_database,
    "move": move,
    "drop_views": drop_views,
    "configure_branch": lambda url: configure_branch(Config(), relay_url=url),
    "password_of": lambda url: password_of(url, "tenancy_tenant"),
    "relay_database": relay_database,
    "listen": lambda url: asyncio.run(listen(url, asyncio.Event())),
    "ProbeMessages": lambda url: ProbeMessages(url, Installation()).states([]),
    "check_leaks": lambda url: check_leaks(superuser_url=url, tenant_url=url),
    "assert_no_leaks": lambda url: assert_no_leaks(superuser_url=url, tenant_url=url),
}
URLS = {
    "no PostgreSQL": f"mysql://somebody:{PASSWORD}@127.0.0.1:1/shop",
    "no port": f"postgresql://somebody:{PASSWORD}@127.0.0.1:port/shop",
    "nobody listens": f"postgresql://somebody:{PASSWORD}@127.0.0.1:1/shop",
    "an option": f"postgresql://somebody:{PASSWORD}@127.0.0.1:1/shop?no_option=1",
}
# These do not connect, or go on until they can.
LATER = {"database_url", "Database", "Database, platform", "answers", "relay_database", "listen"}


@pytest.mark.parametrize("kind", URLS)
@pytest.mark.parametrize("name", CALLS)
def test_a_traceback_with_locals_shows_no_password(name: str, kind: str) -> None:
    if name in LATER and kind in ("nobody listens", "an option"):
        return
    with pytest.raises(Exception) as caught:  # noqa: PT011  # which one: other tests say
        CALLS[name](URLS[kind])
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    own = [frame for frame in _frames(shown) if "temporal_tenancy" in frame.filename]
    assert own
    assert PASSWORD[:8] not in str([frame.locals for frame in own])


def _frames(shown: traceback.TracebackException) -> list[traceback.FrameSummary]:
    found = list(shown.stack)
    for other in (shown.__cause__, None if shown.__suppress_context__ else shown.__context__):
        found += [] if other is None else _frames(other)
    return found


def test_a_hidden_text_is_the_text_and_is_not_shown() -> None:
    url = hidden(URLS["nobody listens"])
    assert url == URLS["nobody listens"]
    assert repr(url) == "'postgresql://somebody:***@127.0.0.1:1/shop'"
    assert repr(hidden("hunter2")) == repr(url[:40]) == "'***'"
    assert repr(Secret("postgresql://h/shop?password=hunter2")) == "'postgresql://h/shop'"
    assert hidden(None) is None
