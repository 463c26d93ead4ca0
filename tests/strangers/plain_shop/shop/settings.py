"""Where the shop's servers are."""

import os

from temporal_tenancy.postgres import Installation, Roles

OWNER_URL = os.environ.get("SHOP_OWNER_URL", "")
APP_URL = os.environ["SHOP_APP_URL"]

INSTALLATION = Installation(
    schema="jobs", roles=Roles(tenant="shop_app", platform="shop_platform", relay="shop_relay")
)
