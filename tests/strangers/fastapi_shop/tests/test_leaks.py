from __future__ import annotations

import os

from shop.models import Base
from temporal_tenancy.testing import assert_no_leaks


def test_no_statement_reaches_another_tenants_rows() -> None:
    assert_no_leaks(
        superuser_url=os.environ["SUPERUSER_DATABASE_URL"],
        tenant_url=os.environ["TENANT_DATABASE_URL"],
        models=[Base],
    )
