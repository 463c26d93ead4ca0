"""starter.py api-keys: a key is made and shown once, listed, and revoked."""

from __future__ import annotations

import pytest

from tests.fixtures.starter import Batch, Command, Starter

pytestmark = pytest.mark.usefixtures("two_tenants")


async def test_a_key_is_shown_once_and_revoked(starter: Starter) -> None:
    made = await starter("api-keys", "create", "--tenant", "acme", "--name", "shop", "--json")
    key = made.document["key"]
    assert key.startswith(made.document["prefix"])

    listed = await starter("api-keys", "list", "--tenant", "acme")
    assert key not in listed.out
    assert made.document["prefix"] in listed.out

    gone = await starter("api-keys", "revoke", made.document["id"], "--tenant", "acme", "--json")
    assert gone.document["revoked_at"] is not None
    assert "key" not in gone.document


async def test_what_cannot_be_is_refused_in_a_sentence(batch: Batch) -> None:
    given = {
        ("create", "--tenant", "nobody", "--name", "x"): "TenantUnknown",
        ("create", "--tenant", "Acme!", "--name", "x"): "TenantInvalid",
        ("create", "--tenant", "acme"): "Missing option",
        ("list", "--tenant", "nobody"): "TenantUnknown",
        ("revoke", "no-uuid", "--tenant", "acme"): "UsageError",
        ("revoke", "0198c0de-0000-7000-8000-000000000000", "--tenant", "acme"): "ApiKeyUnknown",
    }
    said = await batch([Command(["api-keys", *arguments]) for arguments in given])
    for answer, sentence in zip(said, given.values(), strict=True):
        assert answer.code == 2
        assert sentence in answer.err
