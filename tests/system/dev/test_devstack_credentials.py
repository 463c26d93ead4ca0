"""The file of passwords."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from dev.devstack.credentials import Credentials
from dev.devstack.errors import PartMissing
from dev.devstack.files import write_private


def test_passwords_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "passwords.json"
    made = Credentials.create(path, ["owner", "tenant"])
    read = Credentials.read(path, ["owner", "tenant"])
    assert [read["owner"], read["tenant"]] == [made["owner"], made["tenant"]]


def test_each_role_has_a_password_of_its_own(tmp_path: Path) -> None:
    made = Credentials.create(tmp_path / "passwords.json", ["owner", "tenant"])
    assert made["owner"] != made["tenant"]


def test_a_lost_file_is_named_in_the_sentence(tmp_path: Path) -> None:
    path = tmp_path / "passwords.json"
    with pytest.raises(PartMissing, match=f"^{path} does not hold the password of owner"):
        Credentials.read(path, ["owner"])


def test_only_the_owner_may_read_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("new", 0o600)
