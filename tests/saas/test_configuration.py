"""Which settings make a process's configuration another one."""

from __future__ import annotations

import pytest

from processes.lifecycle.configuration import OWN, configuration
from saas.settings import Settings

VALUES = {"worker_health_port": "9999", "web_health_port": "9998", "worker_build_id": "b2"}


@pytest.mark.parametrize("name", sorted(OWN))
def test_what_each_process_has_of_its_own_makes_no_other_configuration(name: str) -> None:
    changed = Settings.model_validate({name: VALUES.get(name, "10.0.0.1")})
    assert configuration(changed) == configuration(Settings())


@pytest.mark.parametrize(
    ("name", "value"), [("log_level", "debug"), ("link_secret", "another"), ("web_uploads", 7)]
)
def test_a_changed_setting_makes_another(name: str, value: object) -> None:
    changed = Settings.model_validate({name: value})
    assert configuration(changed) != configuration(Settings())


def test_so_does_another_temporal(monkeypatch: pytest.MonkeyPatch) -> None:
    before = configuration(Settings())
    monkeypatch.setenv("TEMPORAL_NAMESPACE", "another")
    assert configuration(Settings()) != before
