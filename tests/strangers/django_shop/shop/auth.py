"""Whose request it is."""

from __future__ import annotations

from django.http import HttpRequest

TOKENS = {"token of 7": "7", "token of 42": "42"}


def tenant_of(request: HttpRequest) -> str | None:
    """Returns the tenant of the request's token."""
    return TOKENS.get(request.headers.get("Authorization", "").removeprefix("Bearer "))
