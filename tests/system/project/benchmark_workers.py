"""Makes every worker of the benchmarks, and prints why one cannot be made.

A program of its own: the benchmarks' jobs would be known to all later tests of the process.
"""

from __future__ import annotations

import ast
import asyncio
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from temporalio.client import Client
from temporalio.worker import Worker

from benchmarks.shared.servers import PASSTHROUGH
from processes import connect
from temporal_tenancy import TenancyPlugin
from temporal_tenancy.core.jobs import job_of
from temporal_tenancy.testing import InMemoryDirectory

ROOT: Final = Path(__file__).parents[3]
GIVEN: Final = ("workflows", "activities", "no_remote_activities")


def worker_calls() -> Iterator[tuple[str, ast.Call]]:
    """Yields each call of `Worker` in the benchmarks, with the name of its module."""
    for path in sorted((ROOT / "benchmarks").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Worker":
                yield module, node


async def main(address: str) -> None:
    """Prints a line for each worker: its place, and `made` or the error."""
    plugin = TenancyPlugin(
        directory=InMemoryDirectory(), passthrough=[*PASSTHROUGH, *connect.PASSTHROUGH]
    )
    ours = await Client.connect(address, plugins=[plugin])
    bare = await Client.connect(address)
    for module, call in worker_calls():
        place = f"{module}:{call.lineno}"
        told: dict[str | None, str] = {each.arg: ast.unparse(each.value) for each in call.keywords}
        names = dict(vars(import_module(module)))
        given: dict[str, Any] = {
            name: eval(told[name], names)  # noqa: S307 (our own source)
            for name in GIVEN
            if name in told
        }
        client = ours if all(map(job_of, given["workflows"])) else bare
        threads = ThreadPoolExecutor(1) if "activity_executor" in told else None
        try:
            Worker(client, task_queue=place, activity_executor=threads, **given)
        except Exception as error:  # each of them is one that a benchmark would end with
            print(f"{place} {type(error).__name__}: {error}")
        else:
            print(f"{place} made")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
