"""What a program says while it waits."""

from __future__ import annotations

import io
import os
import re
import time

import pytest

from dev.devstack.load import Load
from dev.devstack.progress import Progress, Silence


def said(stream: io.StringIO) -> str:
    """What was written, with each time as `T`."""
    return re.sub(r"\d+(\.\d)? s", "T", stream.getvalue())


def test_a_phase_is_one_line_with_its_time() -> None:
    stream = io.StringIO()
    with Progress(stream).phase("Starting Temporal"):
        pass
    assert said(stream) == "Starting Temporal… T\n"


def test_a_long_phase_gives_signs_of_life() -> None:
    stream = io.StringIO()
    with Progress(stream, every=0.01).phase("Loading"):
        while stream.getvalue().count("…") < 3:
            time.sleep(0.001)
    assert said(stream).startswith("Loading… T… T…")
    assert said(stream).endswith(" T\n")


def test_what_is_said_in_a_phase_is_a_line_of_its_own() -> None:
    stream = io.StringIO()
    progress = Progress(stream)
    with progress.phase("Looking"):
        progress.say("building it")
    assert said(stream) == "Looking…\nbuilding it\nLooking: T\n"


def test_phases_at_the_same_time_do_not_share_a_line() -> None:
    stream = io.StringIO()
    progress = Progress(stream)
    with progress.phase("Starting one"), progress.phase("Starting two"):
        pass
    assert said(stream) == "Starting one…\nStarting two… T\nStarting one: T\n"


class Busy(Load):
    """The load of a machine that is busy."""

    def was_busy(self) -> bool:
        return True


@pytest.mark.parametrize(("long", "is_told"), [(0.0, True), (3600.0, False)])
def test_a_long_phase_on_a_busy_machine_says_so(long: float, is_told: bool) -> None:
    stream = io.StringIO()
    with Progress(stream, every=0.01, long=long, load=Busy).phase("Loading"):
        while stream.getvalue().count("…") < 3:
            time.sleep(0.001)
    assert ("Loading… T, the machine is busy…" in said(stream)) is is_told


def test_a_phase_that_fails_ends_its_line() -> None:
    stream = io.StringIO()
    with pytest.raises(ValueError, match="x"), Progress(stream).phase("Looking"):
        raise ValueError("x")
    assert stream.getvalue() == "Looking…\n"


def test_a_short_phase_may_be_silent() -> None:
    stream = io.StringIO()
    with Progress(stream).phase("Stopping", after=60.0):
        pass
    assert stream.getvalue() == ""


def test_a_silent_phase_is_told_once_it_is_long() -> None:
    stream = io.StringIO()
    with Progress(stream, every=0.01).phase("Stopping", after=0.01):
        while stream.getvalue().count("…") < 3:
            time.sleep(0.001)
    assert said(stream).startswith("Stopping… T… T…")
    assert said(stream).endswith(" T\n")


def test_a_reader_that_has_gone_stops_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        progress = Progress(stream)
        with progress.phase("Looking"):
            progress.say("still here")
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)  # so that closing it can flush


def test_silence_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    silence = Silence()
    with silence.phase("Looking"):
        silence.say("x")
    assert capsys.readouterr().out == ""
