"""The account that PostgreSQL runs under."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from dev.devstack import accounts
from dev.devstack.errors import PartMissing


def test_a_normal_user_runs_it_himself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert accounts.unprivileged_account(tmp_path / "data") is None


def test_root_without_an_account_is_told_how_to_make_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(accounts, "ACCOUNT_NAMES", ("no-such-account",))
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(PartMissing, match=r'Make it with "useradd --system no-such-account"'):
        accounts.unprivileged_account(tmp_path / "data")


def test_a_folder_that_the_account_cannot_enter_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(accounts, "_find", lambda: FakeEntry())
    monkeypatch.setattr(accounts, "_passing_capability", lambda: None)
    with pytest.raises(PartMissing, match=f"may not enter {closed}"):
        accounts.unprivileged_account(closed / "data")


class FakeEntry:
    pw_name = "nobody-else"
    pw_uid = 2**31 - 2
    pw_gid = 2**31 - 2
