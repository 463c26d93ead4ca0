"""Code of the application's that cannot be imported: whatever asks for it names the line."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from processes.cli.program import PROGRAM
from processes.lifecycle.program import run_program
from temporal_tenancy.cli import use_program
from temporal_tenancy.cli._failures import _classified
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.places import is_of_an_import
from tests.fixtures.worker_process import ROOT

MISTAKES = {
    "x = (": "SyntaxError: '(' was never closed.",
    "{}['plan']": "KeyError: 'plan'.",
    "import nosuch": "ModuleNotFoundError: No module named 'nosuch'.",
    "def f(): raise ValueError('odd')\nf()": "ValueError: odd.",
    "raise SystemExit('no')": "SystemExit: no.",
}


def raised(what: Callable[[], object]) -> BaseException:
    with pytest.raises((Exception, SystemExit)) as caught:
        what()
    return caught.value


@pytest.mark.parametrize(("source", "said"), MISTAKES.items(), ids=range(len(MISTAKES)))
def test_a_mistake_in_a_file_is_the_applications_with_its_line_from_the_current_folder(
    source: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "jobs" / "evening.py"
    path.parent.mkdir()
    path.write_text(f"\n{source}\n")
    error = raised(lambda: runpy.run_path(str(path)))
    with use_program(PROGRAM):
        code, kind, message = _classified(error)
    assert (code, kind) == (2, "ApplicationBroken")
    assert message == (
        f'importing the application failed at jobs/evening.py:2: {said} "--debug" before the '
        "command shows the traceback."
    )


def test_an_error_of_a_file_that_was_imported_is_not_one_of_its_import(tmp_path: Path) -> None:
    path = tmp_path / "evening.py"
    path.write_text("def run(): {}['plan']\n")
    assert not is_of_an_import(raised(runpy.run_path(str(path))["run"]))


def test_a_mistake_in_text_that_was_made_while_the_program_runs_is_none_of_a_file() -> None:
    assert not is_of_an_import(raised(lambda: compile("x = (", "<string>", "exec")))


def test_a_sentence_that_says_what_to_do_keeps_its_type(tmp_path: Path) -> None:
    path = tmp_path / "evening.py"
    path.write_text(
        "from temporal_tenancy import ConfigurationError\nraise ConfigurationError('name it.')\n"
    )
    error = raised(lambda: runpy.run_path(str(path)))
    assert isinstance(error, ConfigurationError)
    with use_program(PROGRAM):
        assert _classified(error) == (2, "ConfigurationError", "name it.")


def test_a_process_says_it_too_of_what_it_imports_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evening.py"
    path.write_text("x = (\n")

    def serve() -> None:
        runpy.run_path(str(path))

    assert run_program(serve, [], name="worker.py") == 2
    assert capsys.readouterr().err == (
        "ApplicationBroken: importing the application failed at evening.py:1: SyntaxError: '(' was "
        "never closed.\n"
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The reference SaaS, with copies of what a test breaks."""
    for each in ("activities", "processes", "temporal_tenancy"):
        (tmp_path / each).symlink_to(ROOT / each)
    for program in ("starter.py", "worker.py"):
        shutil.copy(ROOT / program, tmp_path)
    for each in ("saas", "workflows"):
        without = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / each, tmp_path / each, ignore=without)
    return tmp_path


@pytest.mark.parametrize(
    ("program", "broken"),
    [
        (["starter.py", "jobs"], "workflows/billing.py"),
        (["starter.py", "--help"], "saas/hints.py"),
        (["worker.py", "--queue", "bulk"], "workflows/billing.py"),
        (["worker.py", "--relay"], "saas/queues.py"),
        (["-m", "processes.web"], "saas/database/search.py"),
    ],
    ids=["command", "help", "worker", "relay", "door"],
)
def test_each_program_says_it_in_one_sentence(program: list[str], broken: str, tree: Path) -> None:
    with (tree / broken).open("a") as file:
        file.write("def x(:\n")
    lines = (tree / broken).read_text().count("\n")
    done = subprocess.run(
        [sys.executable, "-B", *program],
        cwd=tree,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.startswith(
        f"ApplicationBroken: importing the application failed at {broken}:{lines}: SyntaxError: "
    )
    assert done.stderr.count("\n") == 1
    assert (done.returncode, done.stdout) == (2, "")
