"""What version a worker.py says that it is."""

from __future__ import annotations

import pytest

from processes.lifecycle.build import code_digest
from processes.worker.serve import deployment_of
from saas.settings import Settings, load_settings, refuse_misspelled_settings
from temporal_tenancy import ConfigurationError


def settings(name: str | None = None, build: str | None = None) -> Settings:
    return Settings(worker_deployment_name=name, worker_build_id=build)


def test_a_worker_is_unversioned_unless_its_deployment_is_named() -> None:
    config = deployment_of(settings())
    assert not config.use_worker_versioning
    assert config.version.build_id == code_digest()


@pytest.mark.parametrize("build", [None, "2026-11-27.1"])
def test_a_named_deployment_turns_versions_on(build: str | None) -> None:
    config = deployment_of(settings("saas", build))
    assert config.use_worker_versioning
    assert config.version.to_canonical_string() == f"saas.{build or code_digest()}"


@pytest.mark.parametrize(
    ("variables", "version"),
    [
        (
            {"TEMPORAL_DEPLOYMENT_NAME": "saas/bulk", "TEMPORAL_WORKER_BUILD_ID": "b2"},
            "saas/bulk.b2",
        ),
        ({"WORKER_DEPLOYMENT_NAME": "saas", "WORKER_BUILD_ID": "b2"}, "saas.b2"),
        (
            {
                "TEMPORAL_DEPLOYMENT_NAME": "saas/bulk",
                "WORKER_DEPLOYMENT_NAME": "saas",
                "TEMPORAL_WORKER_BUILD_ID": "b2",
            },
            "saas.b2",
        ),
    ],
)
def test_the_worker_controllers_names_are_a_workers(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], version: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    refuse_misspelled_settings()
    assert deployment_of(load_settings()).version.to_canonical_string() == version


def test_a_name_that_the_server_would_refuse_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="separate it"):
        deployment_of(settings("my.saas"))
