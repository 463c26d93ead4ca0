"""Which of a project's source files have changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dev.sources import Sources


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project."""
    for name in ("worker.py", "saas/a.py", "saas/deep/b.py", "tests/t.py", ".venv/v.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    return tmp_path


@pytest.mark.parametrize(
    "name", ["worker.py", "saas/a.py", "saas/deep/b.py", "new.py", "made/new.py"]
)
def test_a_file_that_could_be_imported_has_changed(root: Path, name: str) -> None:
    sources = Sources(root)
    before = sources.snapshot()
    assert sources.changed_since(before) == []
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text("longer")
    assert sources.changed_since(before) == [Path(name)]


@pytest.mark.parametrize(
    "name", ["tests/t.py", ".venv/v.py", "saas/a.pyc", "saas/__pycache__/a.py", "docs/a.py"]
)
def test_another_file_has_not(root: Path, name: str) -> None:
    sources = Sources(root)
    before = sources.snapshot()
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text("longer")
    assert sources.changed_since(before) == []


def test_a_file_that_is_deleted_or_of_the_same_size_has_changed(root: Path) -> None:
    sources = Sources(root)
    before = sources.snapshot()
    (root / "worker.py").unlink()
    os.utime(root / "saas/a.py", ns=(1, 1))
    assert sources.changed_since(before) == [Path("saas/a.py"), Path("worker.py")]


def test_a_folder_that_is_gone_has_no_files(tmp_path: Path) -> None:
    assert Sources(tmp_path / "gone").snapshot() == {}
