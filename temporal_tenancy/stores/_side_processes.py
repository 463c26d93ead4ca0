"""Migrates stores in processes beside this one: Alembic runs one migration a process at a time."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

from temporal_tenancy.core.tenant_id_types import TenantIdType, declare_tenant_ids, declared_type

STORES_EACH: Final = 10  # to migrate, before another process is worth its start of a second

Mapping = Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[Any]]  # as `map()` is typed


@contextmanager
def side_processes(at_once: int, stores: int) -> Iterator[Mapping]:
    """Provides a function like `map()`, which calls in up to `at_once` processes.

    For few stores it calls in this process. What is called, and with what, must be picklable. The
    processes end with this one, however that ends.
    """
    processes = min(at_once, -(-stores // STORES_EACH))
    if processes <= 1:
        yield map
        return
    # A fork would share this process's connections, and its threads' locks.
    executor = ProcessPoolExecutor(
        processes,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_process,
        initargs=(declared_type(),),
    )
    try:
        yield executor.map
    finally:
        executor.shutdown(cancel_futures=True)


def _start_process(tenant_ids: TenantIdType) -> None:
    """Prepares a process as its parent was."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.stdout = sys.stderr  # the parent's answer goes to standard output
    logging.getLogger("temporal_tenancy").addHandler(logging.NullHandler())
    declare_tenant_ids(tenant_ids)


def _end_with_parent() -> None:
    """Ends this process when its parent has been killed; the server then undoes what is open."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
