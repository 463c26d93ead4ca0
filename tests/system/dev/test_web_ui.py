"""The Web UI as operators see it, and `make screenshots`, which photographs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dev.devstack.errors import PartMissing
from docs.screenshots import IMAGES, find_chromium

ROOT = Path(__file__).parents[3]


@pytest.fixture
def chromium() -> str:
    try:
        return find_chromium()
    except PartMissing as error:
        pytest.skip(str(error))


def screenshots(folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "docs.screenshots", "--to", str(folder)],
        cwd=ROOT,
        env=os.environ | environ,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.usefixtures("chromium")
def test_an_operator_sees_whose_run_failed_and_why(tmp_path: Path) -> None:
    done = screenshots(tmp_path)
    assert done.returncode == 0, done.stderr
    assert {image.name for image in tmp_path.iterdir()} == {
        image.name for image in IMAGES.iterdir() if not image.name.startswith("dashboard-")
    }


def test_without_chromium_it_says_how_to_get_it(tmp_path: Path) -> None:
    done = screenshots(tmp_path, PATH=str(tmp_path))
    assert done.returncode == 3
    assert "install" in done.stderr
    assert done.stderr.startswith("PartMissing: ")
