"""No control or format character of a foreign text is printed, logged or sent in an answer."""

from __future__ import annotations

import json
import logging
import sys

import pytest
from rich.progress import Progress

from processes import logs
from processes.cli.program import PROGRAM
from processes.web.errors import problem
from temporal_tenancy.cli import use_program
from temporal_tenancy.cli.answers import Answer, err, facts, lines, perform, print_json, say, table
from temporal_tenancy.core.display import is_hidden, printable
from tests.library.core.test_printable import OWNED, bare


async def _answer() -> Answer:
    shown = lines(
        OWNED, table(("name", OWNED), [(OWNED, OWNED)]), facts([(OWNED, OWNED), ("none", None)])
    )
    return Answer({"name": OWNED, OWNED: [OWNED]}, shown)


@pytest.mark.parametrize("as_json", [True, False])
def test_a_command_prints_nothing_that_a_terminal_obeys(
    capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    with use_program(PROGRAM):
        perform(_answer(), json=as_json)
    say(OWNED)
    print_json({"error": OWNED})
    said = capsys.readouterr()
    assert not any(map(is_hidden, bare(said.out + said.err)))
    assert "owned" in said.out
    assert r"a\x1b[2J" in said.err


def test_a_progress_bar_shows_nothing_that_a_terminal_obeys() -> None:
    with err.capture() as shown, Progress(console=err) as progress:
        progress.add_task(printable(OWNED), total=1)
    assert "\x1b]" not in shown.get()
    assert "\x9b" not in shown.get()


@pytest.mark.parametrize("format", ["json", "console"])
def test_a_log_line_holds_nothing_that_a_terminal_obeys(format: logs.Format) -> None:
    formatter = logs._formatter(format, None, colors=False)
    try:
        raise ValueError(OWNED)
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "it.failed", None, sys.exc_info())
    record.said = OWNED
    line = formatter.format(record)
    assert "owned" in line
    assert not any(map(is_hidden, line.replace("\n", "").replace("\t", "")))


def test_the_http_door_answers_with_nothing_that_a_page_obeys() -> None:
    said = json.loads(bytes(problem(422, "InvalidRequest", OWNED).body))
    assert not any(map(is_hidden, said["error"]["message"]))
