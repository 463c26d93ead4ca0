"""What is shown of a log that ended."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from dev.devstack.last_words import Ending, ending, last_words
from temporal_tenancy.cli import import_failure

ROOT = Path("/project")


def line(event: str, level: str = "info", second: int = 0, **fields: object) -> str:
    """A line of a program of this project."""
    time = f"2026-11-27T22:24:{second:02}.000000Z"
    said = {"timestamp": time, "level": level, "event": event, **fields}
    return json.dumps({**said, "worker": "1@vm", "logger": "saas.x"})


def run(tmp_path: Path, **files: str) -> Ending | None:
    """How a program ends that runs `main.py` of these files."""
    for name, text in files.items():
        path = tmp_path / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.with_suffix(".py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-S", "main.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    return ending(line("worker.starting") + "\n" + done.stderr, tmp_path)


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("import nothing_here", "ModuleNotFoundError: No module named 'nothing_here'"),
        ("x = (1\n", "SyntaxError: '(' was never closed"),
        ("if 1:\nx", "IndentationError: expected an indented block after 'if' statement"),
        ("class Named(Exception): ...\nraise Named('a: b')", "Named: a: b"),
        ("class Bare(Exception): ...\nraise Bare", "Bare"),
    ],
)
def test_a_mistake_is_named_with_its_file_and_line(tmp_path: Path, code: str, shown: str) -> None:
    found = run(tmp_path, main="import flows.billing", flows__billing=f"\n{code}")
    assert found is not None
    assert found.is_mistake
    assert str(found).startswith(shown)
    assert found.where.startswith("flows/billing.py, line ")


def test_of_errors_that_caused_each_other_the_first_is_named(tmp_path: Path) -> None:
    code = "try:\n    undefined\nexcept NameError as e:\n    raise RuntimeError('worse') from e"
    found = run(tmp_path, main=code)
    assert found == Ending("NameError: name 'undefined' is not defined", "main.py, line 2", True)


def test_of_errors_in_the_midst_of_each_other_the_last_is_named(tmp_path: Path) -> None:
    code = "try:\n    1 / 0\nexcept ArithmeticError:\n    raise KeyError('x')"
    found = run(tmp_path, main=code)
    assert found == Ending("KeyError: 'x'", "main.py, line 4", True)


def test_of_a_group_its_own_error_is_named(tmp_path: Path) -> None:
    code = """
import asyncio
async def wrong(): undefined
async def main():
    async with asyncio.TaskGroup() as group:
        group.create_task(wrong())
asyncio.run(main())
"""
    found = run(tmp_path, main=code)
    assert found == Ending("NameError: name 'undefined' is not defined", "main.py, line 3", True)


@pytest.mark.parametrize("error", ["ConnectionError('away')", "OSError(28, 'full')", "MemoryError"])
def test_an_error_of_the_machine_is_no_mistake(tmp_path: Path, error: str) -> None:
    found = run(tmp_path, main=f"raise {error}")
    assert found is not None
    assert not found.is_mistake


def test_a_refused_declaration_is_a_mistake() -> None:
    said = "ConfigurationError: Billing has no queue."
    assert ending(f"{line('worker.starting')}\n{said}", ROOT) == Ending(said, "", True)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (
            "x = (",
            Ending("SyntaxError: '(' was never closed", "flows/billing.py, line 2", True),
        ),
        ("raise OSError('full')", Ending("OSError: full", "flows/billing.py, line 2", False)),
    ],
)
def test_what_a_program_says_of_code_that_it_cannot_import_is_how_it_ended(
    source: str, found: Ending, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "flows" / "billing.py"
    path.parent.mkdir()
    path.write_text(f"\n{source}\n")
    with pytest.raises((SyntaxError, OSError)) as caught:
        runpy.run_path(str(path))
    said = import_failure(caught.value)
    assert ending(f"{line('worker.starting')}\n{said}", tmp_path) == found


@pytest.mark.parametrize("said", ["", "NotReachable: Temporal does not answer.", line("x.y")])
def test_a_program_that_says_why_it_ended_has_made_no_mistake(said: str) -> None:
    assert ending(said, ROOT) is None


def test_an_earlier_traceback_is_not_how_it_ended() -> None:
    log = 'Traceback (most recent call last):\n  File "/project/a.py", line 1\nNameError: x'
    assert ending(f"{log}\n{line('worker.started')}", ROOT) is None


def test_a_killed_program_is_shown_with_its_last_event() -> None:
    log = [
        line("activity.succeeded", job_id="ua/x/1", job="x", tenant_id="ua", run_id="0", attempt=1),
        line("Pool disposed. Pool size: 10"),
    ]
    [shown] = last_words("\n".join(log), ROOT)
    assert shown.endswith(" info activity.succeeded job_id=ua/x/1")
    assert len(shown.split()[0]) == len("22:24:00")


def test_noise_is_counted_and_what_is_long_ago_is_left_out() -> None:
    log = [
        line("relay.upkeep_failed", "error", error="long ago"),
        line("relay.upkeep_failed", "warning", 2, error_type="Away", error="refused 1"),
        line("activity.succeeded", "info", 3),
        line("relay.upkeep_failed", "warning", 4, error_type="Away", error="refused 2"),
    ]
    log[0] = log[0].replace("22:24", "21:24")
    [shown] = last_words("\n".join(log), ROOT)
    assert shown.endswith(' warning relay.upkeep_failed error="Away: refused 2" (×2)')


def test_an_exception_in_a_line_is_one_word_of_it() -> None:
    raised = 'Traceback (most recent call last):\n  File "/project/a.py", line 1\nValueError: x'
    [shown] = last_words(line("web.failed", "error", exception=raised), ROOT)
    assert shown.endswith(' error web.failed error="ValueError: x"')


def test_the_servers_lines_are_read_too() -> None:
    postgres = "2026-11-27 22:24:14.5 UTC [7] {}:  {}"
    fatal = "terminating connection due to unexpected postmaster exit"
    log = [postgres.format("LOG", "checkpoint")] + [postgres.format("FATAL", fatal)] * 3
    [shown] = last_words("\n".join(log), ROOT)
    assert shown.endswith(f" fatal {fatal} (×3)")
    temporal = 'time=2026-11-27T22:23:35.189 level=WARN msg="Context timeout" service=frontend'
    [shown] = last_words(f"{temporal}\n{temporal}", ROOT)
    assert shown == "22:23:35 warn Context timeout service=frontend (×2)"


def test_text_without_a_format_is_shown_as_it_is() -> None:
    assert last_words(f"{line('a.b')}\n\none\ntwo", ROOT) == ["one", "two"]
    assert last_words("", ROOT) == []
    [cut] = last_words("x" * 10_000, ROOT)
    assert len(cut) == 200


@pytest.mark.parametrize(
    "log",
    [
        '{"timestamp": "2026-11',
        "{}",
        "[1]",
        '{"event": null}',
        '{"event": "x", "timestamp": 7}',
        'time=x level=WARN msg="\\x"',
        "\x00\ud800",
        'File "", line 1\nX',
    ],
)
def test_a_line_that_is_damaged_stops_nothing(log: str) -> None:
    last_words(log, ROOT)
    last_words(f"{line('a.b', 'error')}\n{log}", ROOT)
