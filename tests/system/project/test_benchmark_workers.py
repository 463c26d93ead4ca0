"""Every worker that a benchmark makes is one that the plugin accepts.

No other test makes these workers, and a refused one would be found only by `make bench`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import pytest
from temporalio.worker import WorkerConfig

from temporal_tenancy import TenancyPlugin
from temporal_tenancy.testing import InMemoryDirectory

ROOT: Final = Path(__file__).parents[3]


def _workers() -> Iterator[tuple[str, ast.Call]]:
    """Yields each call of `Worker` in the benchmarks, with the name of its module."""
    for path in sorted((ROOT / "benchmarks").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Worker":
                yield module, node


WORKERS: Final = [
    pytest.param(module, call, id=f"{module}:{call.lineno}") for module, call in _workers()
]


@pytest.mark.parametrize(("module", "call"), WORKERS)
def test_the_plugin_accepts_a_benchmarks_worker(module: str, call: ast.Call) -> None:
    names = vars(import_module(module))
    given: dict[str, Any] = {
        str(each.arg): eval(ast.unparse(each.value), dict(names))  # noqa: S307 (our own source)
        for each in call.keywords
        if each.arg in ("workflows", "activities", "no_remote_activities")
    }
    assert given["workflows"]
    TenancyPlugin(directory=InMemoryDirectory())._check_code(WorkerConfig(**given))


def test_there_are_workers_to_check() -> None:
    assert len(WORKERS) > 10
