"""The samples of "Test your own application" run as they stand, in an application's own suite."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from dev.devstack.postgres import DatabaseUrls
from dev.devstack.temporal_server import TemporalDevServer

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "how-to" / "test-your-application.md"
BLOCK = re.compile(r"^```python\n# (\S+\.py)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

TABLES = '''
"""The application's tables."""

from tests.fixtures.tables.models import Effect, Tables as Base
'''
WITHOUT = '''
"""The fixtures without what they need."""

import pytest


@pytest.fixture
def tenancy_database():
    return None


def test_a_session_needs_a_database(in_tenant):
    with pytest.raises(pytest.UsageError, match="fixture tenancy_database"):
        in_tenant("acme")


def test_a_tenant_must_be_in_the_directory(tenancy_directory, in_tenant):
    assert list(tenancy_directory.tenants) == ["acme", "globex"]
'''
SETTINGS = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = session
asyncio_default_test_loop_scope = session
filterwarnings = error
"""


def test_the_samples_pass(
    tmp_path: Path, database_urls: DatabaseUrls, temporal: TemporalDevServer
) -> None:
    files = dict(BLOCK.findall(PAGE.read_text()))
    files |= {"myapp/tables.py": TABLES, "tests/test_without.py": WITHOUT, "pytest.ini": SETTINGS}
    for name, body in files.items():
        path = tmp_path / name.replace("tests/", "suite/")
        path.parent.mkdir(exist_ok=True)
        path.write_text(body)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "suite"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": f"{tmp_path}:{ROOT}",
            "TENANT_DATABASE_URL": database_urls.tenant,
            "SUPERUSER_DATABASE_URL": database_urls.superuser,
            "TEMPORAL_ADDRESS": temporal.address,
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^(\d+) passed", done.stdout, re.MULTILINE)
