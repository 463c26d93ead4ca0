"""What the activities of `scope_jobs` carry out of their scopes, and what came of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextvars import copy_context

from pydantic import BaseModel

from temporal_tenancy.core.activities import platform_activity, tenant_activity
from temporal_tenancy.core.inputs import TenantInput
from temporal_tenancy.core.scope import TenantScope, current_tenant, enter

Work = Callable[[], Awaitable[object]]


class Control:
    """One test's."""

    def __init__(self, work: Work) -> None:
        self.work = work  # what is done behind the end of the activity
        self.released = asyncio.Event()
        self.thread_released = threading.Event()
        self.carried: list[Awaitable[object]] = []
        self.loop = asyncio.get_running_loop()

    async def go_on(self) -> object:
        """Lets what was carried out of its scope go on, and returns what came of it."""
        self.released.set()
        self.thread_released.set()
        [carried] = self.carried
        return await carried


control: Control


def new_control(work: Work) -> Control:
    """Forgets what was carried before; `work` is what is done behind an activity's end."""
    global control
    control = Control(work)
    return control


class Nothing(BaseModel):
    pass


class Named(TenantInput):
    pass


async def _when_released() -> object:
    await control.released.wait()
    return await control.work()


@tenant_activity
async def leave_a_task(request: Nothing) -> str:
    control.carried.append(asyncio.create_task(_when_released()))
    return current_tenant()


@tenant_activity
def leave_a_thread(request: Nothing) -> str:
    done: Future[object] = Future()

    def work() -> None:
        assert control.thread_released.wait(10)
        try:
            done.set_result(current_tenant())
        except Exception as error:
            done.set_exception(error)

    threading.Thread(target=copy_context().run, args=[work]).start()
    control.carried.append(asyncio.wrap_future(done, loop=control.loop))
    return current_tenant()


@tenant_activity
async def work_side_by_side(request: Nothing) -> list[str]:
    async def work() -> str:
        await asyncio.sleep(0)
        return current_tenant()

    return list(await asyncio.gather(work(), asyncio.to_thread(current_tenant), work()))


@platform_activity("enters each tenant by its name")
async def leave_a_task_of_an_inner_scope(request: Named) -> str:
    with enter(TenantScope(request.tenant_id)):
        control.carried.append(asyncio.create_task(_when_released()))
        return current_tenant()


ACTIVITIES = [
    leave_a_task,
    leave_a_thread,
    work_side_by_side,
    leave_a_task_of_an_inner_scope,
]
