"""Commands whose environment names no server use the stack that runs in their tree."""

from __future__ import annotations

import fcntl
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from dev.devstack.postgres import DatabaseUrls
from processes.cli.running_stack import how_to_start, use_running_stack
from temporal_tenancy.cli import NotReachable
from temporal_tenancy.control_plane.tenants import Tenants
from tests.fixtures.starter import Batch, Command
from tests.fixtures.worker_process import ROOT

ADDRESSES = {
    "DATABASE_URL": "postgresql://owner@127.0.0.1:1/saas",
    "TENANT_DATABASE_URL": "postgresql://tenant:p'w $x@127.0.0.1:1/saas",
    "PLATFORM_DATABASE_URL": "postgresql://platform@127.0.0.1:1/saas",
    "TEMPORAL_ADDRESS": "127.0.0.1:2",
    "STORAGE_URL": "file:///a folder",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a stack that has stopped."""
    made = tmp_path / "tree" / ".devstack"
    made.mkdir(parents=True)
    write(made, ADDRESSES)
    (made / "lock").touch()
    return made


def write(folder: Path, variables: Mapping[str, str]) -> None:
    lines = ["# The addresses of the stack.", "unset DATABASE_URL"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    (folder / "env").write_text("\n".join(lines) + "\n")


@contextmanager
def running(folder: Path) -> Iterator[None]:
    """Holds the lock, as a stack does."""
    with (folder / "lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def test_its_addresses_are_used_but_never_the_owners(folder: Path) -> None:
    environ = {"DEVSTACK": str(folder), "STORAGE_URL": "s3://mine"}
    with running(folder):
        assert use_running_stack(environ) is None
    used = {name: value for name, value in ADDRESSES.items() if name != "DATABASE_URL"}
    assert environ == {**used, "DEVSTACK": str(folder), "STORAGE_URL": "s3://mine"}


@pytest.mark.parametrize(
    "name", ["DATABASE_URL", "RELAY_DATABASE_URL", "TEMPORAL_PROFILE", "TEMPORAL_API_KEY"]
)
def test_an_environment_that_names_a_server_is_left_as_it_is(folder: Path, name: str) -> None:
    environ = {"DEVSTACK": str(folder), name: "x"}
    with running(folder):
        assert use_running_stack(environ) is None
    assert environ == {"DEVSTACK": str(folder), name: "x"}


def test_beside_a_running_stack_it_is_said_why_its_addresses_are_not_used(folder: Path) -> None:
    environ = {"DEVSTACK": str(folder), "TEMPORAL_ADDRESS": "x", "DATABASE_URL": ""}
    with running(folder):
        assert how_to_start("Start one.", environ) == (
            f"TEMPORAL_ADDRESS is set, so the command takes no address from {folder}/env, whose "
            "stack runs. Set what is missing too, or unset it to use that stack."
        )
        environ |= {"TEMPORAL_NAMESPACE": "x", "RELAY_DATABASE_URL": "x"}
        assert how_to_start("", environ).startswith(
            "RELAY_DATABASE_URL and 2 other variables are set, "
        )
    assert how_to_start("Start one.", environ) == "Start one."


def test_without_any_server_nothing_is_said_of_a_running_stack(folder: Path) -> None:
    with running(folder):
        assert how_to_start("Start one.", {"DEVSTACK": str(folder)}) == "Start one."


def test_a_variable_that_is_empty_names_nothing(folder: Path) -> None:
    environ = {"DEVSTACK": str(folder), "PLATFORM_DATABASE_URL": ""}
    with running(folder):
        use_running_stack(environ)
    assert environ["PLATFORM_DATABASE_URL"] == ADDRESSES["PLATFORM_DATABASE_URL"]


def test_a_named_folder_in_which_no_stack_ever_ran_is_refused(tmp_path: Path) -> None:
    environ = {"DEVSTACK": str(tmp_path / "none")}
    with pytest.raises(NotReachable, match=r"DEVSTACK names .*/none, in which no stack has run"):
        use_running_stack(environ)
    assert list(environ) == ["DEVSTACK"]


def test_a_stack_that_has_stopped_is_said(folder: Path) -> None:
    with pytest.raises(NotReachable, match=r"has stopped\. \"make dev\" starts it"):
        use_running_stack({"DEVSTACK": str(folder)})


def test_a_stack_that_is_starting_is_said(folder: Path) -> None:
    (folder / "env").unlink()
    with running(folder), pytest.raises(NotReachable, match="is starting"):
        use_running_stack({"DEVSTACK": str(folder)})


@pytest.mark.parametrize("text", [b"export A='x\n", b"export =x\n", b"export A\n", b"\xff\n"])
def test_a_damaged_file_is_said(folder: Path, text: bytes) -> None:
    (folder / "env").write_bytes(text)
    with running(folder), pytest.raises(NotReachable, match=r"env (is damaged|cannot be read)"):
        use_running_stack({"DEVSTACK": str(folder)})


def test_a_working_folder_of_another_tree_is_told_whose_servers_these_are(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other" / ".devstack"
    other.mkdir(parents=True)
    write(other, ADDRESSES)
    (other.parent / "docs").mkdir()
    monkeypatch.chdir(other.parent / "docs")
    with running(folder):
        said = use_running_stack({"DEVSTACK": str(folder)})
    assert said == f"The servers are those of {folder}, not of {other}."


async def test_a_command_finds_the_stack_and_says_when_it_has_stopped(
    folder: Path, tenants: Tenants, database_urls: DatabaseUrls, batch: Batch
) -> None:
    await tenants.add("acme", "Acme", plan="standard")
    write(folder, {**ADDRESSES, "PLATFORM_DATABASE_URL": database_urls.platform})
    servers = {name: None for name in os.environ if name.startswith("TEMPORAL_")}
    nothing: dict[str, str | None] = {
        **servers,
        **dict.fromkeys(ADDRESSES),
        "TEMPORAL_NAMESPACE": None,
        "TEMPORAL_UI_URL": None,
        "DEVSTACK": str(folder),
    }
    command = Command(["tenants", "list", "--json"], nothing)
    with running(folder):
        (found,) = await batch([command])
    assert (found.code, found.err) == (0, "")
    assert [tenant["id"] for tenant in found.document] == ["acme"]
    (stopped,) = await batch([command])
    assert stopped.code == 3
    assert stopped.err == f"NotReachable: {stopped.document['error']['message']}\n"
    assert f"the stack in {folder} has stopped." in stopped.err


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a program in another folder, with a Python that has no packages."""
    return subprocess.run(
        [sys.executable, "-S", str(program), *arguments],
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
        env={"PATH": os.environ["PATH"], "COLUMNS": "80"},
    )


@pytest.mark.parametrize("program", ["starter.py", "worker.py"])
def test_a_program_runs_from_any_folder_with_any_python(program: str) -> None:
    assert os.access(ROOT / program, os.X_OK)
    if not (ROOT / ".venv" / "bin" / "python").exists():
        pytest.skip("there is no .venv, as with make test-lowest")
    done = run(ROOT / program, "--help")
    assert done.returncode == 0, done.stderr
    assert program in done.stdout


def test_a_program_without_its_packages_says_how_to_install_them(tmp_path: Path) -> None:
    for file in ("starter.py", "processes/__init__.py", "processes/interpreter.py"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text((ROOT / file).read_text())
    done = run(tmp_path / "starter.py", "tenants", "list")
    assert done.returncode == 3
    assert done.stderr == (
        "PackagesMissing: starter.py needs packages that are not installed. "
        '"make setup" installs them.\n'
    )
