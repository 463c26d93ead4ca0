"""The site's settings."""

import os

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ["PGHOST"],
        "PORT": os.environ["PGPORT"],
        "NAME": os.environ["PGDATABASE"],
        "USER": os.environ["PGUSER"],  # tenancy_tenant; for `manage.py migrate` the owner
        "PASSWORD": os.environ["PGPASSWORD"],
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
    }
}
INSTALLED_APPS = ["shop", "temporal_tenancy.django"]
MIDDLEWARE = ["temporal_tenancy.django.TenantMiddleware"]
ROOT_URLCONF = "shop.urls"
SECRET_KEY = os.environ.get("SECRET_KEY", "only on a laptop")
ALLOWED_HOSTS = ["*"]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TENANCY_TENANT_OF = "shop.auth.tenant_of"
TENANCY_APPLICATION = "shop.tenancy:application"
