"""Keys: whose they are cannot be mistaken."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from temporal_tenancy.core.errors import ConfigurationError, ScopeMissing, TenantInvalid
from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.shared_state._keys import platform_key, tenant_key

TENANTS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,8}", fullmatch=True).filter(
    lambda tenant: tenant.lower() != "platform"
)
# Few letters, so that parts often are each other's beginnings and ends.
TEXTS = st.text(st.sampled_from("a:/{}*?[]%\\ \x00\né\ud800") | st.characters(), max_size=8)
NAMED = st.tuples(TENANTS, TEXTS, st.lists(TEXTS, max_size=3).map(tuple))


def key_of(tenant: str, name: str, parts: tuple[str, ...]) -> str:
    with enter(TenantScope(tenant)):
        return tenant_key("cache", name, *parts)


@given(NAMED, NAMED)
def test_what_differs_in_tenant_name_or_parts_has_another_key(
    one: tuple[str, str, tuple[str, ...]], other: tuple[str, str, tuple[str, ...]]
) -> None:
    assert (key_of(*one) == key_of(*other)) == (one == other)


@given(NAMED)
def test_no_part_is_a_wildcard_or_chooses_the_node(
    named: tuple[str, str, tuple[str, ...]],
) -> None:
    key = key_of(*named)
    assert key.startswith(f"tenancy:{{{named[0]}}}:")
    assert key.count("{") == key.count("}") == 1
    assert key.isascii()
    assert key.isprintable()
    assert not set(key) & set("*?[]\\ ")
    assert fnmatch.fnmatchcase(key, key)


@given(TENANTS, TEXTS)
def test_no_tenants_key_is_the_platforms(tenant: str, name: str) -> None:
    assert key_of(tenant, name, ()) != platform_key("cache", name)


def test_no_tenant_can_be_called_like_the_platform() -> None:
    with pytest.raises(TenantInvalid):
        TenantScope("platform")


def test_two_purposes_have_two_keys() -> None:
    with enter(TenantScope("acme")):
        assert tenant_key("cache", "a") != tenant_key("lock", "a")


def test_there_is_no_key_outside_a_tenants_scope() -> None:
    with pytest.raises(ScopeMissing, match="needs a tenant"):
        tenant_key("cache", "prices")


@pytest.mark.parametrize("part", [7, None, b"a", ("a",)])
def test_a_part_is_text(part: object) -> None:
    with enter(TenantScope("acme")), pytest.raises(ConfigurationError, match="is text"):
        tenant_key("cache", part)  # type: ignore[arg-type]


def test_a_long_key_is_refused() -> None:
    with enter(TenantScope("acme")), pytest.raises(ConfigurationError, match="1,000 bytes"):
        tenant_key("cache", "a" * 1000)
