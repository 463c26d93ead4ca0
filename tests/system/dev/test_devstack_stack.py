"""A stack whose parts the environment names."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from dev.devstack.errors import PartMissing
from dev.devstack.stack import Stack

GIVEN = {
    "DATABASE_URL": "postgresql+psycopg://owner:it's a $secret@db/saas",
    "TENANT_DATABASE_URL": "postgresql+psycopg://tenant:x@db/saas",
    "PLATFORM_DATABASE_URL": "postgresql+psycopg://platform:x@db/saas",
    "TEMPORAL_ADDRESS": "temporal.example:7233",
    "TEMPORAL_NAMESPACE": "jobs",
    "TEMPORAL_UI_URL": "https://ui.example",
}


def test_parts_that_the_environment_names_are_not_started(tmp_path: Path) -> None:
    with Stack(tmp_path, environ=GIVEN) as stack:
        assert (stack.postgres, stack.temporal) == (None, None)
        assert stack.environment() == GIVEN


@pytest.mark.parametrize("missing", ["TENANT_DATABASE_URL", "PLATFORM_DATABASE_URL"])
def test_the_runtime_roles_must_come_with_the_owner(tmp_path: Path, missing: str) -> None:
    environ = {name: value for name, value in GIVEN.items() if name != missing}
    with pytest.raises(PartMissing, match=f"^DATABASE_URL is set, but {missing} is not."):
        Stack(tmp_path, environ=environ).start()


def test_workers_do_not_get_the_owners_url(tmp_path: Path) -> None:
    with Stack(tmp_path, environ={**GIVEN, "HOME": "/home/me"}) as stack:
        without_owner = {name: value for name, value in GIVEN.items() if name != "DATABASE_URL"}
        assert stack.runtime_environment() == without_owner
        assert stack.process_environment() == {**without_owner, "HOME": "/home/me"}
        assert stack.process_environment(owner=True) == {**GIVEN, "HOME": "/home/me"}


def test_a_shell_can_source_the_env_file(tmp_path: Path) -> None:
    path = tmp_path / "env file"
    with Stack(tmp_path, environ=GIVEN) as stack:
        stack.write_env_file(path)
    sourced = subprocess.run(
        ["bash", "-c", 'source "$0" && env -0', path],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    variables = dict(line.split("=", 1) for line in sourced.split("\0") if line)
    assert {name: variables.get(name) for name in GIVEN} == GIVEN


def test_only_the_owner_may_read_the_env_file(tmp_path: Path) -> None:
    with Stack(tmp_path, environ=GIVEN) as stack:
        stack.write_env_file(tmp_path / "env")
    assert (tmp_path / "env").stat().st_mode & 0o777 == 0o600
