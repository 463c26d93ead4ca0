"""A stack whose parts the environment names."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from threading import Timer

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from dev.devstack.errors import DirectoryInUse, NoDirectory, PartMissing
from dev.devstack.files import read_exports, write_exports
from dev.devstack.progress import Progress
from dev.devstack.stack import OWN_VARIABLE, Stack, without_own, without_servers
from dev.local_saas import LACKS
from tests.fixtures.redis import installed_redis

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


def test_a_stack_has_redis_where_it_is_installed_and_tells_the_programs(tmp_path: Path) -> None:
    installed_redis()
    with Stack(tmp_path, environ=GIVEN, outside=True) as stack:
        assert stack.redis is not None
        url = stack.process_environment()["REDIS_URL"]
        with Redis.from_url(url) as client:
            assert client.ping()
        stack.write_env_files()
    assert read_exports(tmp_path / "env")["REDIS_URL"] == url


def test_a_stack_goes_without_redis_where_it_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dev.devstack.stack.redis_program", lambda: None)
    with Stack(tmp_path, environ=GIVEN, outside=True, progress=Progress()) as stack:
        assert "REDIS_URL" not in stack.environment()
    assert capsys.readouterr().out.count("redis-server") == 1


def test_a_given_redis_is_used(tmp_path: Path) -> None:
    environ = {**GIVEN, "REDIS_URL": "redis://redis.example"}
    with Stack(tmp_path, environ=environ, outside=True) as stack:
        assert stack.redis is None
        assert stack.environment()["REDIS_URL"] == "redis://redis.example"
    assert "REDIS_URL" not in without_servers(environ)


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


def sourced(*files: Path, environ: Mapping[str, str] = {}) -> dict[str, str]:
    """Returns the variables of a shell that has sourced the files in this order."""
    script = "; ".join(f'. "${number}"' for number in range(1, len(files) + 1))
    output = subprocess.run(
        ["sh", "-euc", f"{script}; env -0", "sh", *files],
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return dict(line.split("=", 1) for line in output.split("\0") if line)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A stack's directory with both files."""
    directory = tmp_path / "a stack"
    with Stack(directory, environ=GIVEN) as stack:
        stack.write_env_files(LACKS)
    return directory


@pytest.mark.parametrize("process", sorted(LACKS))
def test_another_process_of_a_kind_has_what_the_stacks_own_has(written: Path, process: str) -> None:
    kept = {name: value for name, value in GIVEN.items() if name not in LACKS[process]}
    kept.pop("DATABASE_URL")
    # Also in a shell that has had them all.
    variables = sourced(written / "owner.env", written / f"{process}.env")
    assert {name: variables.get(name) for name in GIVEN} == dict.fromkeys(GIVEN) | kept


def test_a_shell_that_sources_the_env_file_has_what_a_worker_needs(written: Path) -> None:
    variables = sourced(written / "env")
    expected = {name: value for name, value in GIVEN.items() if name != "DATABASE_URL"}
    assert {name: variables.get(name) for name in expected} == expected
    assert "DATABASE_URL" not in variables


def test_the_owners_address_is_apart(written: Path) -> None:
    variables = sourced(written / "owner.env")  # alone: "migrate" needs nothing else
    assert {name: variables.get(name) for name in GIVEN} == GIVEN


def test_the_env_file_takes_the_owners_address_away_again(written: Path) -> None:
    earlier = {"DATABASE_URL": "another release's"}
    assert "DATABASE_URL" not in sourced(written / "env", environ=earlier)
    assert "DATABASE_URL" not in sourced(written / "owner.env", written / "env")


def test_only_their_owner_may_read_the_files(written: Path) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in written.glob("*env")}
    names = ["env", *(f"{name}.env" for name in ("owner", *LACKS))]
    assert modes == dict.fromkeys(names, 0o600)


def test_the_files_are_read_as_a_shell_reads_them(written: Path) -> None:
    for name in ("env", "owner.env"):
        variables = sourced(written / name)
        assert read_exports(written / name).items() <= variables.items()
    assert read_exports(written / "owner.env")["DATABASE_URL"] == GIVEN["DATABASE_URL"]


@given(st.dictionaries(st.from_regex(r"[A-Z_]+", fullmatch=True), st.text()))
def test_whatever_is_written_is_read_again(variables: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "env"
        clean = {
            name: re.sub(r"[\0\ud800-\udfff\r]", "", value) for name, value in variables.items()
        }
        write_exports(path, clean, comment="two\nlines", unset=["OTHER"])
        assert read_exports(path) == clean


@pytest.mark.parametrize("text", ["export", "export A='", "unset A", "A=1", "\0\xff"])
def test_a_file_of_somebody_else_is_read_as_empty(tmp_path: Path, text: str) -> None:
    (tmp_path / "env").write_text(text)
    assert read_exports(tmp_path / "env") == {}


def test_what_a_shell_has_sourced_of_a_stack_does_not_reach_the_next(tmp_path: Path) -> None:
    own = {"DEVSTACK": str(tmp_path), "DEVSTACK_OWN": "DATABASE_URL,TEMPORAL_ADDRESS", **GIVEN}
    kept = {name: GIVEN[name] for name in GIVEN if name not in own["DEVSTACK_OWN"].split(",")}
    assert without_own(own, tmp_path) == kept


def test_a_stack_that_is_thrown_away_takes_no_address_of_another(written: Path) -> None:
    environ = sourced(written / "env", environ={**GIVEN, "HOME": "/home/me"})
    kept = without_servers({**environ, "WEB_URL": "http://x", OWN_VARIABLE: "WEB_URL"})
    assert kept["HOME"] == "/home/me"
    assert not {name for name in kept if name.endswith("_URL") or name.startswith("TEMPORAL_")}


def test_what_was_given_to_a_stack_reaches_the_next(written: Path) -> None:
    environ = {**GIVEN, **sourced(written / "env", written / "owner.env")}
    assert GIVEN.items() <= without_own(environ, written).items()


def test_the_addresses_of_another_stack_are_kept(written: Path, tmp_path: Path) -> None:
    environ = sourced(written / "env")
    assert without_own(environ, tmp_path / "another") == environ


def test_the_files_of_an_earlier_run_are_gone_until_the_next_has_started(written: Path) -> None:
    with Stack(written, environ=GIVEN):
        assert list(written.glob("*env")) == []


def test_a_second_stack_is_told_which_runs_and_where(written: Path) -> None:
    with Stack(written, environ=GIVEN) as running:
        with pytest.raises(DirectoryInUse) as starting:
            Stack(written, environ=GIVEN).start()
        running.write_env_files()
        with pytest.raises(DirectoryInUse) as started:
            Stack(written, environ=GIVEN).start()
    assert f"another stack runs in {written}: process {os.getpid()}, since " in str(starting.value)
    assert "Web UI" not in str(starting.value)
    assert "Its Web UI is https://ui.example; " in str(started.value)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}', '{"pid": 1, "began": "never"}'])
def test_a_lock_that_says_nothing_is_a_lock_all_the_same(written: Path, text: str) -> None:
    with Stack(written, environ=GIVEN):
        (written / "lock").write_text(text)
        with pytest.raises(DirectoryInUse, match=r"^another stack runs in .* Stop it first"):
            Stack(written, environ=GIVEN).start()


@pytest.mark.parametrize("name", ["file", "file/in/it"])
def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NoDirectory, match=rf"^{tmp_path}/{name} is not a folder"):
        Stack(tmp_path / name, environ=GIVEN).start()


def test_a_directory_that_cannot_be_made_is_named() -> None:
    with pytest.raises(PartMissing, match=r"^/proc/none cannot be written: .+\. Use another"):
        Stack(Path("/proc/none"), environ=GIVEN).start()


def test_a_command_that_looks_at_the_lock_does_not_stop_a_stack(written: Path) -> None:
    with (written / "lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        Timer(0.1, lambda: fcntl.flock(file, fcntl.LOCK_UN)).start()
        with Stack(written, environ=GIVEN):
            pass
