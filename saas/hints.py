"""The starter.py commands to append to the library's messages."""

from __future__ import annotations

from typing import Final

from temporal_tenancy.cli import Hints

HINTS: Final = Hints(
    "starter.py",
    {
        "ApiKeyUnknown": {
            r"(?P<tenant>[A-Za-z0-9][A-Za-z0-9_-]{0,62}) has no key ": (
                '"{program} api-keys list --tenant {tenant}" shows all.'
            ),
        },
        "MigrationsBehind": {
            "": (
                '"{program} migrate" does so, with the owner\'s DATABASE_URL, which "source '
                '.devstack/owner.env" sets for "make dev".'
            ),
        },
        "ConfigurationError": {
            "this process has no database for tenants": "Set TENANT_DATABASE_URL.",
            "this process has no control plane database": "Set PLATFORM_DATABASE_URL.",
        },
        "ConnectionSecretMissing": {
            "this process has no secret store": (
                "Set CONNECTIONS_URL to the folder with the connections, as file:///folder."
            ),
        },
        "StoreRefused": {
            "the connection of a store in a database of its own is kept in a secret store": (
                "Set CONNECTIONS_URL to file:///folder, which is made with the first connection."
            ),
        },
    },
)

with_hint = HINTS.sentence
message_with_hint = HINTS.message
summary_with_hint = HINTS.summary
