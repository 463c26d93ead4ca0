"""No statement of the shop's role reaches another customer's rows."""

import os

from temporal_tenancy.testing import assert_no_leaks

URLS = {
    "superuser_url": os.environ["SHOP_SUPERUSER_URL"],
    "tenant_url": os.environ["SHOP_APP_URL"],
    "skip": {
        "orders: delete": "every order of the check has its receipt",
        "orders: merge: delete": "likewise",
    },
}


def test_no_leaks():
    assert_no_leaks(**URLS)
