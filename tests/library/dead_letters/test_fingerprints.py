"""Failures of the same kind share a fingerprint; other kinds have another."""

from __future__ import annotations

import pytest

from temporal_tenancy.dead_letters.fingerprints import fingerprint


def of(message: str, tenant: str = "acme", job: str = "a.b", kind: str = "Broken") -> str:
    return fingerprint(job, kind, message, tenant_id=tenant)


@pytest.mark.parametrize(
    ("one", "another"),
    [
        ("row 17 is wrong", "row 4 is wrong"),
        ("there is no 'flyers.csv' here", "there is no 'x' here"),
        ('no "a" here', 'no "b c" here'),
        (
            "import 0198a1b2-0000-7000-8000-00000000000a has gone",
            "import 0198a1b2-ffff-7000-8000-0000000000ff has gone",
        ),
        ("object deadbeef01 is not there", "object cafe1234beef is not there"),
        ("waited 1.5 s", "waited  30 s"),
    ],
)
def test_what_differs_from_case_to_case_makes_no_difference(one: str, another: str) -> None:
    assert of(one) == of(another)


def test_two_tenants_failures_of_one_kind_have_one_fingerprint() -> None:
    assert of("ua is broken", "ua") == of("b6 is broken", "b6")
    assert of("Java is broken", "ua") == of("Java is broken", "b6")


def test_another_job_type_or_sentence_is_another_kind() -> None:
    kinds = {of("it is late"), of("it is early"), of("it is late", job="a.c"),
             of("it is late", kind="Late"), of("it defaced the decade"),
             of("it's early, it's ill"), of("it's late, it's ill")}  # fmt: skip
    assert len(kinds) == 7
