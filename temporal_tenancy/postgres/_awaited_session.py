"""A session whose block cannot commit while a call of one of its methods was never awaited.

A coroutine that nobody awaits does nothing: `rows = session.execute(...)` without `await` sends no
statement, and the block would commit without it.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.core.places import place_of_caller
from temporal_tenancy.postgres.tenant_owned import SESSION_UNFINISHED
from temporal_tenancy.postgres.unfinished import Call, Unfinished

_ENDS_IT: Final = ("aclose", "close", "invalidate", "reset")
_SQLALCHEMYS: Final = AsyncSession.execute.__code__.co_filename
AWAITED: Final = tuple(
    name
    for name, method in vars(AsyncSession).items()
    if inspect.iscoroutinefunction(method) and not name.startswith("_") and name not in _ENDS_IT
)


class AwaitedSession(AsyncSession):
    """An `AsyncSession` that notices a missing `await`."""


def _noticed(method: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
    name = f"session.{method.__name__}()"

    @functools.wraps(method)
    def call(self: AwaitedSession, *args: Any, **keywords: Any) -> Any:
        work = getattr(super(AwaitedSession, self), method.__name__)(*args, **keywords)
        if sys._getframe(1).f_code.co_filename == _SQLALCHEMYS:
            return work  # another of the session's methods calls this one, and awaits it
        among = self.info.get(SESSION_UNFINISHED)
        if not isinstance(among, Unfinished):
            return work
        where = place_of_caller()
        return Call(work, f"{name} ({where})" if where else name, among)

    return call


for _name in AWAITED:
    setattr(AwaitedSession, _name, _noticed(getattr(AsyncSession, _name)))
