"""The account that runs PostgreSQL."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from dev.devstack.accounts import unprivileged_account
from dev.devstack.errors import PartMissing


def test_a_normal_user_runs_it_himself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert unprivileged_account(tmp_path / "data") is None


def test_root_without_an_account_is_told_how_to_make_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(PartMissing, match=r'Make it with "useradd --system no-such-account"'):
        unprivileged_account(tmp_path / "data", names=["no-such-account"])


def test_a_folder_that_the_account_cannot_enter_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (status := tmp_path / "status").write_text(f"CapPrm:\t{0:016x}\n")
    with pytest.raises(PartMissing, match=f"may not enter {closed}"):
        unprivileged_account(closed / "data", names=["nobody"], status=status)
