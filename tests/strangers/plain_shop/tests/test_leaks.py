"""No statement of the shop's role reaches another customer's rows."""

import os

import psycopg
import pytest

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


@pytest.mark.parametrize(
    "hole, mend",
    [
        ("alter table receipts disable row level security",
         "alter table receipts enable row level security"),
        ("create view all_orders as select * from orders; grant select on all_orders to shop_app",
         "drop view all_orders"),
        ("create unique index once on orders (item, placed_at)", "drop index once"),
    ],
)
def test_a_hole_is_found(hole, mend):
    with psycopg.connect(URLS["superuser_url"], autocommit=True) as connection:
        connection.execute(hole)
        try:
            with pytest.raises(AssertionError) as found:
                assert_no_leaks(**URLS)
            print(found.value)
        finally:
            connection.execute(mend)
