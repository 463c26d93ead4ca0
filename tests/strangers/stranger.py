"""A stranger: an application in an environment with the wheel, on servers of its own."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg

from dev.devstack.ports import LOOPBACK
from dev.devstack.postgres import EmbeddedPostgres
from dev.devstack.processes import OwnedProcess
from tests.fixtures.wheel import run

HERE: Final = Path(__file__).parent
PATIENCE: Final = 90.0  # seconds until an expected event must have happened
LOOK: Final = 0.1  # seconds between polls


class Stranger:
    """A copy of a stranger's application, its environment and its processes."""

    def __init__(
        self,
        name: str,
        python: Path,
        folder: Path,
        environ: Mapping[str, str],
        operators: Sequence[str] = ("tenancy",),
    ) -> None:
        self._operators = operators  # the command that their operators call
        self.folder = folder / name
        shutil.copytree(HERE / name, self.folder)
        self._bin = python.parent
        self.environ = {
            "PATH": f"{self._bin}:{os.environ['PATH']}",
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "COLUMNS": "100",
            **environ,
        }
        self._processes: list[OwnedProcess] = []

    def run(self, *command: str, **variables: str) -> str:
        """Runs a program of its environment, and returns what it prints."""
        program, *arguments = command
        environ = self.environ | variables
        return run(self._bin / program, *arguments, cwd=self.folder, environ=environ)

    def tenancy(self, *arguments: str) -> Any:
        """Runs an operators' command, and returns its JSON."""
        return json.loads(self.run(*self._operators, *arguments, "--json"))

    def start_tenancy(self, *arguments: str) -> None:
        """Starts an operators' command that works until the test ends it."""
        self.start(*self._operators, *arguments)

    def start(self, *command: str) -> None:
        """Starts a program of its environment; it ends with the test."""
        program, *arguments = command
        # The launcher changes no folder.
        full = ["/usr/bin/env", "-C", str(self.folder), str(self._bin / program), *arguments]
        log = self.folder.parent / f"process-{len(self._processes)}.log"
        self._processes.append(OwnedProcess(full, log=log, environ=self.environ))

    def stop(self) -> None:
        """Ends what it has started."""
        for process in reversed(self._processes):
            process.kill()

    def until(self, what: str, holds: Callable[[], bool]) -> None:
        """Waits until something holds; a failure shows the logs of its processes."""
        deadline = time.monotonic() + PATIENCE
        while not holds():
            running = all(process.running for process in self._processes)
            if not running or time.monotonic() > deadline:
                logs = "\n".join(process.log_tail(60) for process in self._processes)
                raise AssertionError(f"{what}; all processes run: {running}\n{logs}")
            time.sleep(LOOK)

    def runs_for_each(self, job: str, tenants: Sequence[str]) -> None:
        """Applies the schedules and triggers one: the ledger has a success for each tenant."""
        self.tenancy("schedules", "trigger", job)
        found: dict[str, Any] = {}

        def ended() -> bool:
            latest = self.tenancy("ticks", "list", job)
            if not latest or latest[0]["ended_at"] is None:
                return False
            found.update(self.tenancy("ticks", "show", job))
            return True

        self.until(f"the tick of {job} has not ended", ended)
        states = {each["tenant_id"]: each["state"] for each in found["tenants"]}
        assert states == dict.fromkeys(tenants, "succeeded"), found

    def dead_letter(self, job: str, tenant: str) -> str:
        """Waits for the only dead letter, which is this tenant's; returns its id."""
        letters: list[dict[str, Any]] = []

        def is_there() -> bool:
            letters[:] = self.tenancy("dead-letters", "list")
            return bool(letters)

        self.until(f"{job} has left no dead letter", is_there)
        [letter] = letters
        assert (letter["job"], letter["tenant_id"], letter["status"]) == (job, tenant, "open")
        return str(letter["id"])

    def replays(self, letter: str) -> None:
        """Replays a dead letter, and waits until its job has succeeded."""

        def status() -> str:
            [found] = self.tenancy("dead-letters", "list")
            assert found["id"] == letter
            return str(found["status"])

        self.tenancy("dead-letters", "replay", letter)
        self.until("the replay has not succeeded", lambda: status() == "resolved")

    def is_well(self) -> None:
        """The doctor has found nothing that fails."""
        checks = self.tenancy("doctor")["checks"]
        failed = [each for each in checks if each["verdict"] == "failed"]
        assert len(checks) > 10
        assert not failed

    def finds(self, table: str) -> None:
        """The stranger's own leak check fails, and names the table with the hole."""
        done = subprocess.run(
            [self._bin / "python", "-m", "pytest", "-q", "-x", "-k", "leak or statement"],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1, done.stdout + done.stderr
        assert f"public.{table}: " in done.stdout, done.stdout

    def wrote_less_than(self, most: int, files: Sequence[str]) -> None:
        """The lines that are there for the library: of `files` all, of others those that name it.

        Blank lines, comments and docstrings do not count.
        """
        counted = {name: len(_lines(self.folder / name)) for name in files}
        for path in sorted(self.folder.rglob("*.py")):
            name = str(path.relative_to(self.folder))
            if name not in files and (lines := lines_for_the_library(path)):
                counted[name] = len(lines)
        assert sum(counted.values()) < most, counted


@contextmanager
def stranger(
    name: str,
    python: Path,
    folder: Path,
    environ: Mapping[str, str],
    operators: Sequence[str] = ("tenancy",),
) -> Iterator[Stranger]:
    """Makes the stranger, and ends its processes afterwards."""
    made = Stranger(name, python, folder, environ, operators)
    try:
        yield made
    finally:
        made.stop()


def url(
    server: EmbeddedPostgres, role: str, password: str, database: str, driver: str = "+psycopg"
) -> str:
    """The URL of a database on the stranger's server."""
    return f"postgresql{driver}://{role}:{password}@{LOOPBACK}:{server.port}/{database}"


def execute(server: EmbeddedPostgres, database: str, *statements: str) -> list[tuple[Any, ...]]:
    """Runs statements as a superuser, each in its own transaction; returns the last one's rows."""
    address = server.urls(database).superuser.replace("+psycopg", "")
    with psycopg.connect(address, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def statements_of(path: Path) -> list[str]:
    """The statements of a file, which has no semicolon but at their ends."""
    return [each for each in path.read_text().split(";\n") if each.strip()]


def lines_for_the_library(path: Path) -> set[int]:
    """The numbers of a file's lines that import from the library or use what they import.

    Of a statement with a body, such as a function, its first line counts, decorators included.
    """
    tree = ast.parse(path.read_text())
    imports = [node for node in ast.walk(tree) if _is_of_the_library(node)]
    names = {
        alias.asname or alias.name.partition(".")[0]
        for node in imports
        for alias in getattr(node, "names", ())
    }
    found: set[int] = set()
    for node in ast.walk(tree):
        if node in imports:
            found |= _span(node)
        elif isinstance(node, ast.Name) and node.id in names:
            found.add(node.lineno)
        elif isinstance(node, ast.stmt) and not getattr(node, "body", None):
            used = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
            if used & names:
                found |= _span(node)
    return found & _lines(path)


def _is_of_the_library(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").startswith("temporal_tenancy")
    return isinstance(node, ast.Import) and any(
        alias.name.startswith("temporal_tenancy") for alias in node.names
    )


def _span(node: ast.AST) -> set[int]:
    first, last = getattr(node, "lineno"), getattr(node, "end_lineno")  # noqa: B009
    return set(range(first, last + 1))


def _lines(path: Path) -> set[int]:
    """The numbers of a file's lines but for blank ones, comments and docstrings."""
    text = path.read_text()
    kept = {
        number
        for number, line in enumerate(map(str.strip, text.splitlines()), 1)
        if line and not line.startswith(("#", "--"))
    }
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(text)):
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                kept -= _span(node)
    return kept
