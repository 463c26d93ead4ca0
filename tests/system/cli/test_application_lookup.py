"""How the command tenancy finds the application, and what it says where it finds none."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

import temporal_tenancy
from temporal_tenancy import TenancyPlugin
from temporal_tenancy.cli import (
    Application,
    NotReachable,
    _application_lookup,
    importing_code,
)
from temporal_tenancy.cli._application_lookup import (
    ApplicationAmbiguous,
    ApplicationMissing,
    ApplicationNotFound,
    find_application,
)
from temporal_tenancy.cli._broken_code import ApplicationBroken
from temporal_tenancy.core.errors import ConfigurationError

MAKES = """
from temporal_tenancy.cli import Application, Login
nowhere = Login("a setting")
application = Application(
    connect=None, database=None, tenant=nowhere, platform=nowhere, relay=nowhere, owner=nowhere
)
class Inner:
    application = application
def make():
    return application
def broken():
    raise ValueError("the cause\\nand more")
def closed():
    from temporal_tenancy.cli import NotReachable
    raise NotReachable("the vault does not answer. Start it.")
number = 7
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module in the working directory, which nothing has imported."""
    name = f"theirs_{uuid.uuid4().hex}"
    (tmp_path / f"{name}.py").write_text(MAKES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield name
    for loaded in [each for each in sys.modules if each.startswith(name)]:
        del sys.modules[loaded]


def test_a_mistyped_setting_of_the_folder_is_named(tmp_path: Path, module: str) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.temporal-tenancy]\naplication = "a:b"')
    with pytest.raises(ApplicationNotFound, match=r"no setting 'aplication'\. Did you mean"):
        find_application(None)


def installed(monkeypatch: pytest.MonkeyPatch, *targets: str) -> None:
    """Packages that name applications, one for each target."""
    entries = EntryPoints(
        EntryPoint(f"app{number}", target, _application_lookup.GROUP)
        for number, target in enumerate(targets)
    )
    monkeypatch.setattr(
        _application_lookup, "entry_points", lambda *, group: entries.select(group=group)
    )


def declare(target: str) -> None:
    Path("pyproject.toml").write_text(f"[tool.temporal-tenancy]\napplication = {target}\n")


@pytest.mark.parametrize("attribute", ["application", "make", "Inner.application"])
def test_an_application_or_what_makes_one_is_found_in_the_working_directory(
    module: str, attribute: str
) -> None:
    assert isinstance(find_application(f"{module}:{attribute}"), Application)


def test_what_a_person_names_goes_before_the_folder_and_the_folder_before_a_package(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, "of_the_package:application")
    with pytest.raises(ApplicationNotFound, match="there is no module of_the_package"):
        find_application(None)
    declare('"of_the_folder:application"')
    with pytest.raises(ApplicationNotFound, match="there is no module of_the_folder"):
        find_application(None)
    assert isinstance(find_application(f"{module}:application"), Application)


def test_a_package_that_is_installed_twice_names_one_application(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, *[f"{module}:application"] * 2)
    assert isinstance(find_application(None), Application)


def test_two_packages_that_name_one_each_are_both_named(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, "one:application", "two:application")
    with pytest.raises(ApplicationAmbiguous, match='"one:application" of app0 and "two:appl'):
        find_application(None)


def test_without_any_it_says_where_one_can_be_named(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch)
    with pytest.raises(ApplicationMissing) as missing:
        find_application(None)
    for place in ("--app", "TENANCY_APP", "[tool.temporal-tenancy]", _application_lookup.GROUP):
        assert place in str(missing.value)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("{module}", "names no application. Write module:attribute"),
        ("{module}:", "names no application. Write module:attribute"),
        ("a/b.py:application", "names no application. Write module:attribute"),
        ("{module}.inside:application", "there is no module {module}.inside"),
        ("nowhere.at.all:application", "there is no module nowhere"),
        ("{module}:nothing", "{module} has no nothing. Define it there"),
        ("{module}:Inner.nothing", "{module} has no Inner.nothing"),
        ("{module}:number", "is a int, and no Application"),
    ],
)
def test_a_place_that_holds_no_application_is_named(module: str, target: str, said: str) -> None:
    with pytest.raises(ApplicationNotFound) as missing:
        find_application(target.format(module=module))
    assert said.format(module=module) in str(missing.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tool.temporal-tenancy\n", "cannot be read: Expected"),
        ("[tool.temporal-tenancy]\napplication = 3\n", "is no text"),
        ('[tool]\ntemporal-tenancy = ["x"]\n', "is no text"),
    ],
)
def test_a_pyproject_that_says_it_wrongly_is_named(module: str, text: str, said: str) -> None:
    Path("pyproject.toml").write_text(text)
    with pytest.raises(ApplicationNotFound, match=said):
        find_application(None)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os\nos.environ['SHOP_URL']\n", "failed at {file}:2: KeyError: 'SHOP_URL'."),
        ("def app(:\n", "failed at {file}:1: SyntaxError: "),
        ("import nosuch.thing\n", "failed at {file}:1: ModuleNotFoundError: No module named 'nos"),
        ("raise SystemExit('no')\n", "failed at {file}:1: SystemExit: no."),
        (
            "from pydantic import BaseModel\nclass S(BaseModel):\n    url: int\nS(url='s3cret')\n",
            "failed at {file}:4: ValidationError: url: it must be a whole number.",
        ),
    ],
)
def test_an_import_that_fails_is_told_with_its_cause_and_its_line(
    module: str, code: str, said: str
) -> None:
    file = Path(f"{module}.py")
    file.write_text(code)
    with pytest.raises(ApplicationBroken) as broken:
        find_application(f"{module}:application")
    assert str(broken.value).startswith(f"importing {module} {said.format(file=file)}")
    assert "s3cret" not in str(broken.value)
    assert broken.value.__cause__ is not None  # --debug shows its traceback


@pytest.mark.parametrize("settings", [None, "settings_of_site"])
def test_a_django_site_is_told_of_manage_py(
    module: str, settings: str | None, tmp_path: Path
) -> None:
    """In its own process, in which nothing has set Django up."""
    (tmp_path / "settings_of_site.py").write_text("INSTALLED_APPS = []\n")
    (tmp_path / f"{module}.py").write_text(
        "from django.db import models\nclass Order(models.Model): pass\n"
    )
    environ = {name: value for name, value in os.environ.items() if "DJANGO" not in name}
    done = subprocess.run(
        [sys.executable, "-m", "temporal_tenancy", "--app", f"{module}:application", "jobs"],
        cwd=tmp_path,
        env=environ
        | {"PYTHONPATH": str(Path(temporal_tenancy.__file__).parents[1])}
        | ({"DJANGO_SETTINGS_MODULE": settings} if settings else {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert 'use "manage.py tenancy"' in " ".join(done.stderr.split())
    assert done.returncode != 0


def test_a_function_that_fails_is_told_by_the_first_line_of_its_cause(module: str) -> None:
    with pytest.raises(
        ApplicationBroken, match=r"^calling \"\w+:broken\" failed at .*the cause\. "
    ):
        find_application(f"{module}:broken")


def test_a_sentence_that_says_what_to_do_is_passed_on(module: str) -> None:
    with pytest.raises(NotReachable, match="the vault does not answer"):
        find_application(f"{module}:closed")


def from_environment() -> Application:
    return Application.from_environment(
        lambda database: TenancyPlugin(database=database), tenant="T", platform="P"
    )


@pytest.mark.parametrize("variables", [{}, {"T": "", "P": ""}])
def test_a_variable_that_is_not_set_is_missed_by_the_commands_that_need_it(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    application = from_environment()
    assert (application.tenant.setting, application.tenant.url) == ("T", None)
    assert application.owner.setting == "the URL of the database's owner"
    with pytest.raises(NotReachable, match=r"^P is not set\.$"):
        application.database()


def test_a_variable_that_holds_no_url_is_named_without_its_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("T", "mysql://s3cret")
    with pytest.raises(ConfigurationError, match=r"^T: a database URL has the form") as refused:
        from_environment()
    assert "s3cret" not in str(refused.value)


def test_garbage_is_not_collected_while_code_is_imported() -> None:
    with importing_code():
        assert not gc.isenabled()
    assert gc.isenabled()
