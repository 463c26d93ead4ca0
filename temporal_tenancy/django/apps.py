"""The Django app: it brings the command `manage.py tenancy`."""

from __future__ import annotations

from django.apps import AppConfig


class TenancyConfig(AppConfig):
    """`"temporal_tenancy.django"` in `INSTALLED_APPS`."""

    name = "temporal_tenancy.django"
    label = "temporal_tenancy"
    verbose_name = "Tenancy"
