"""Protects the shop's tables, after tenancy migrate: python -m shop.setup."""

from pathlib import Path

import psycopg

from shop import settings
from temporal_tenancy.postgres import protect_sql

TABLES = ["stock", "orders", "receipts", "day_totals"]


def main():
    with psycopg.connect(settings.OWNER_URL) as connection:
        for table in TABLES:
            connection.execute(protect_sql(table, role="shop_app").encode())
        connection.execute("grant select on customers to shop_platform, shop_relay")
        connection.execute("revoke all on customers from shop_app")


if __name__ == "__main__":
    main()
