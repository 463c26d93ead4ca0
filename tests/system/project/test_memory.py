"""Where the suite's temporary files go."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from tests.fixtures.memory import keep_temporary_files_in_memory


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the suite's own choice as it was."""
    monkeypatch.setattr(tempfile, "tempdir", tempfile.gettempdir())
    monkeypatch.setenv("TMPDIR", "put back after the test")
    monkeypatch.delenv("TMPDIR")


def test_they_go_into_memory_for_the_programs_too(tmp_path: Path) -> None:
    assert keep_temporary_files_in_memory(tmp_path, needed=1)
    assert (os.environ["TMPDIR"], tempfile.gettempdir()) == (str(tmp_path), str(tmp_path))


def test_what_a_person_has_said_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "a place")
    assert not keep_temporary_files_in_memory(tmp_path, needed=1)
    assert os.environ["TMPDIR"] == "a place"


@pytest.mark.parametrize(("memory", "needed"), [("missing", 1), (".", 2**80), ("/proc", 1)])
def test_where_there_is_no_room_they_stay(tmp_path: Path, memory: str, needed: int) -> None:
    before = tempfile.gettempdir()
    assert not keep_temporary_files_in_memory(tmp_path / memory, needed=needed)
    assert ("TMPDIR" in os.environ, tempfile.gettempdir()) == (False, before)
