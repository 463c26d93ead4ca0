"""What the library accepts as the input of a job."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import Field

from temporal_tenancy.core.errors import InvalidPayload, TenancyError, TenantMismatch
from temporal_tenancy.core.inputs import TenantInput, read_input
from temporal_tenancy.core.scope import PlatformScope, TenantScope
from temporal_tenancy.sdk import header


class Sized(TenantInput):
    size: int = Field(gt=0)


@pytest.mark.parametrize(
    "given", [{"tenant_id": "acme", "size": 1}, '{"tenant_id":"acme","size":1}']
)
def test_a_right_input_is_read_from_a_mapping_or_from_json(given: Any) -> None:
    assert read_input(Sized, given, what="it") == Sized(tenant_id="acme", size=1)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"size": 1}, 'TenantMissing: it names no tenant. Add "tenant_id".'),
        ({"tenant_id": None, "size": 1}, 'TenantMissing: it names no tenant. Add "tenant_id".'),
        (
            {"tenant_id": "acme", "size": 0},
            "InvalidPayload: it does not fit: size: it must be greater than 0.",
        ),
        (
            {"tenant_id": "acme", "size": 1, "new": 2},
            "InvalidPayload: it does not fit: new: there is no such field.",
        ),
        (
            {"tenant_id": "acme", "sice": 1},
            "InvalidPayload: it does not fit: size: it is missing; "
            'sice: there is no such field (the nearest is "size").',
        ),
        (
            "{",
            'InvalidPayload: it does not fit: it must be JSON, as in {"name": "value"}, but ends '
            "too soon.",
        ),
        ("[]", "InvalidPayload: it does not fit: it must be an object."),
        ({"tenant_id": "a/b", "size": 1}, "TenantInvalid: 'a/b' is not a tenant id"),
    ],
)
def test_a_wrong_input_is_refused_with_a_sentence(given: Any, sentence: str) -> None:
    with pytest.raises(TenancyError) as caught:
        read_input(Sized, given, what="it")
    assert caught.value.sentence.startswith(sentence)


def test_a_refusal_names_the_first_few_places_only() -> None:
    with pytest.raises(InvalidPayload, match=r"\(and 3 more\)"):
        read_input(Sized, {"tenant_id": "a", **{f"f{n}": 1 for n in range(7)}}, what="it")


def test_a_refusal_does_not_grow_with_what_was_sent() -> None:
    with pytest.raises(InvalidPayload, match=r"x{80}…: there is no such") as caught:
        read_input(Sized, {"tenant_id": "acme", "size": 1, "x" * 100_000: 1}, what="it")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("scope", [TenantScope("acme"), PlatformScope("a reason")])
def test_a_header_reads_back_as_it_was_written(scope: TenantScope | PlatformScope) -> None:
    written = header.write({}, scope)
    assert header.read(written) == scope
    assert written[header.NAME].metadata == {"encoding": b"json/plain"}


def test_the_header_of_a_tenant_is_its_id_as_a_string() -> None:
    assert header.write(None, TenantScope("acme"))[header.NAME].data == b'"acme"'
    platform = header.write(None, PlatformScope("why"))[header.NAME].data
    assert platform == b'{"platform": "why"}'


@pytest.mark.parametrize(
    "data", [b"7", b"null", b'"-a"', b'{"platform": ""}', b'{"x": 1}', b"\xff"]
)
def test_a_header_that_says_nothing_clear_agrees_with_nothing(data: bytes) -> None:
    forged = header.write({}, TenantScope("acme"))
    forged[header.NAME].data = data
    with pytest.raises(TenantMismatch):
        header.read(forged)
